"""What Docker's SDK for Python builds, given a context, a base image and the name of what is built. Prints what came of it, as JSON."""

import io
import json
import sys
import tarfile

import docker

context, base, name = sys.argv[1:]
client = docker.from_env()


def failure(text):
    """What the SDK makes of a Dockerfile that cannot be built."""
    try:
        client.images.build(fileobj=io.BytesIO(text.encode()), rm=True, forcerm=True)
    except (docker.errors.BuildError, docker.errors.APIError) as error:
        return [type(error).__name__, str(error)]
    return None


def archive():
    """A context that the caller has packed, with its Dockerfile elsewhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, text in [("sub/Other", f"FROM {base}\nCOPY f /f\n"), ("f", "packed")]:
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed


def run(image, *command):
    return client.containers.run(image, list(command), remove=True).decode()


result = {}
image, log = client.images.build(
    path=context, tag=name, target="last", buildargs={"WHO": "sdk"}, labels={"from": "sdk"}, rm=True, forcerm=True
)
result["labels"] = image.labels
result["tags"] = image.tags
result["steps"] = [line["stream"].strip() for line in log if line.get("stream", "").startswith("Step ")]
result["said"] = run(name, "cat", "/f", "/c/file")

limits = {"memory": 64 << 20, "memswap": 64 << 20, "cpushares": 512, "cpusetcpus": "0"}
lines = client.api.build(
    path=context,
    tag=name,
    decode=True,
    nocache=True,
    rm=True,
    forcerm=True,
    dockerfile="limits",
    container_limits=limits,
    extra_hosts={"elsewhere": "192.0.2.7"},
    network_mode="none",
    shmsize=1 << 20,
    platform="linux",
)
result["aux"] = [line["aux"]["ID"] for line in lines if "aux" in line]
result["id"] = client.images.get(name).id
result["limits"] = run(name, "cat", "/l")

client.images.build(fileobj=archive(), custom_context=True, encoding="gzip", dockerfile="sub/Other", tag=name, rm=True)
result["packed"] = run(name, "cat", "/f")

result["failing"] = failure(f"FROM {base}\nRUN exit 7\n")
result["nonsense"] = failure(f"FROM {base}\nNONSENSE\n")
client.images.remove(name)
json.dump(result, sys.stdout)
