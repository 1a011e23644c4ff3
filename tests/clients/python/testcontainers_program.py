"""What tests of other projects do with testcontainers: whether a service is ready, and that nothing of it is left."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import docker
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

IMAGE = os.environ["IMAGE"]
SERVER = "mkdir -p /srv; echo hello >/srv/index.html; echo the server is ready; exec httpd -f -p 8080 -h /srv"
LEAVER = """
import os, signal
from testcontainers.core.container import DockerContainer
made = DockerContainer(os.environ["IMAGE"]).with_command("sleep 1000").start()
print(made.get_container_id(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def server():
    return DockerContainer(IMAGE).with_command(["sh", "-c", SERVER]).with_exposed_ports(8080)


class Waiting(unittest.TestCase):
    def answers(self, container):
        address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8080)}/"
        with urllib.request.urlopen(address) as answer:
            self.assertEqual(answer.read(), b"hello\n")

    def test_each_strategy_finds_the_service_ready(self):
        for strategy in (
            LogMessageWaitStrategy(re.compile("is ready")),
            HttpWaitStrategy(8080).for_status_code(200).for_response_predicate(lambda body: body == "hello\n"),
            PortWaitStrategy(8080),
            ExecWaitStrategy(["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]),
            ContainerStatusWaitStrategy(),
            CompositeWaitStrategy(LogMessageWaitStrategy("is ready"), PortWaitStrategy(8080)),
        ):
            with self.subTest(type(strategy).__name__), server().waiting_for(strategy) as container:
                if not isinstance(strategy, ContainerStatusWaitStrategy):
                    self.answers(container)

    def test_health_is_waited_for(self):
        check = {"test": ["CMD-SHELL", "wget -q -O - http://127.0.0.1:8080/"], "interval": 200_000_000, "retries": 20}
        with server().with_kwargs(healthcheck=check).waiting_for(HealthcheckWaitStrategy()) as container:
            self.answers(container)

    def test_a_file_on_this_machine_is_waited_for(self):
        with tempfile.TemporaryDirectory(dir=os.environ["SHARED"]) as place:
            seen = os.environ["SHARED_SEEN"] + "/" + os.path.basename(place)
            made = DockerContainer(IMAGE).with_command("sh -c 'echo done >/there/file; sleep 1000'")
            made = made.with_volume_mapping(seen, "/there", "rw")
            with made.waiting_for(FileExistsWaitStrategy(place + "/file")):
                self.assertTrue(os.path.exists(place + "/file"))

    def test_one_that_ends_too_early_is_told_of(self):
        made = DockerContainer(IMAGE).with_command("sh -c 'echo no; exit 3'")
        with self.assertRaisesRegex(RuntimeError, "exit code: 3"), made.waiting_for(LogMessageWaitStrategy("yes")):
            pass


class Using(unittest.TestCase):
    def test_commands_have_an_environment_a_directory_and_a_user(self):
        with server().with_env("A", "a").with_tmpfs_mount("/quick", "size=1m") as container:
            config = ExecConfig(["sh", "-c", "echo $A $B; pwd; id -u; exit 5"], user="33", environment={"B": "b"}, workdir="/tmp")
            code, output = container.exec(config)
            self.assertEqual((code, output), (5, b"a b\n/tmp\n33\n"))
            self.assertIn(b"1024", container.exec("df -k /quick").output)
            self.assertEqual(container.get_logs(), (b"the server is ready\n", b""))

    def test_files_go_in_and_come_out(self):
        with server().with_copy_into_container(b"before", "/given/before", 0o600) as container:
            container.copy_into_container(b"after", "/given/after")
            self.assertEqual(container.exec("cat /given/after /given/before").output, b"afterbefore")
            with tempfile.TemporaryDirectory() as place:
                container.copy_from_container("/given/before", pathlib.Path(place, "out"))
                self.assertEqual(pathlib.Path(place, "out").read_bytes(), b"before")

    def test_containers_of_a_network_find_each_other(self):
        with Network() as network, server().with_network(network).with_network_aliases("web"):
            with DockerContainer(IMAGE).with_command("sleep 1000").with_network(network) as other:
                self.assertEqual(other.exec("wget -q -O - http://web:8080/").output, b"hello\n")

    def test_an_image_is_built_and_removed(self):
        with tempfile.TemporaryDirectory() as place:
            pathlib.Path(place, "Dockerfile").write_text(f"FROM {IMAGE}\nARG WHO\nRUN echo \"python for $WHO\" >/said\n")
            with DockerImage(place, tag=os.environ["PREFIX"] + ":built", buildargs={"WHO": "tests"}) as image:
                with DockerContainer(str(image)).with_command("sh -c 'cat /said; sleep 1000'") as container:
                    LogMessageWaitStrategy("for tests").wait_until_ready(container)
        with self.assertRaises(docker.errors.ImageNotFound):
            docker.from_env().images.get(os.environ["PREFIX"] + ":built")

    def test_nothing_is_left_of_a_program_that_was_killed(self):
        program = subprocess.run([sys.executable, "-c", LEAVER], stdout=subprocess.PIPE, text=True)
        try:
            docker.from_env().containers.get(program.stdout.strip()).wait(condition="removed", timeout=60)
        except docker.errors.NotFound:
            pass
        with self.assertRaises(docker.errors.NotFound):
            docker.from_env().containers.get(program.stdout.strip())


if __name__ == "__main__":
    unittest.main()
