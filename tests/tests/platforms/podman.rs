//! Podman on the other side of the same registry.

use super::*;

#[test]
#[ignore = "needs Podman: PODMAN='podman' cargo test -p coracle-tests --test platforms -- --ignored"]
fn podman_and_we_give_each_other_the_same() {
    let podman = std::env::var("PODMAN").expect("PODMAN says how to run podman");
    let several = Several::new(&[HOST, OTHERS[0]]);
    let (engine, registry) = (&several.engine, &several.registry);
    let place = format!("/tmp/{}", engine.name("podman"));
    let run = |arguments: &[&str]| {
        let mut words = podman.split_whitespace();
        let (root, runroot) = (format!("{place}/root"), format!("{place}/run"));
        let options = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
        let output =
            Command::new(words.next().unwrap()).args(words).args(options).args(arguments).output().unwrap();
        Output::new(format!("podman {}", arguments.join(" ")), &output).ok()
    };
    let insecure = "--tls-verify=false";
    several.pull(HOST);
    let (single, theirs, back) =
        (registry.name("single:v1"), registry.name("theirs:v1"), registry.name("back:v1"));
    let id = |name: &str| engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok();
    engine.docker(&["tag", &several.name(), &single]).ok();
    engine.docker(&["push", &single]).ok();
    run(&["pull", "-q", insecure, &single]);
    run(&["push", "-q", insecure, &single, &theirs]);
    engine.docker(&["pull", &theirs]).ok();
    assert_eq!(id(&theirs), several.ids[0]);
    engine.docker(&["tag", &theirs, &back]).ok();
    engine.docker(&["push", &back]).ok();
    assert_eq!(raw_manifest(&back), raw_manifest(&theirs), "byte for byte");
    run(&["pull", "-q", insecure, &back]);
    assert_eq!(
        format!("sha256:{}", run(&["inspect", "--type", "image", "-f", "{{.Id}}", &back])),
        several.ids[0]
    );

    // An index: theirs of ours, and ours of theirs.
    let list = registry.name("list:v1");
    run(&["manifest", "create", "ours"]);
    run(&["manifest", "add", insecure, "--all", "ours", &format!("docker://{}", several.name())]);
    run(&["manifest", "push", "-q", insecure, "--all", "ours", &list]);
    engine.docker(&["pull", &list]).ok();
    engine.docker(&["pull", "--platform", "linux/riscv64", &list]).ok();
    let copied = registry.name("copied:v1");
    engine.docker(&["tag", &list, &copied]).ok();
    engine.docker(&["push", &copied]).ok();
    assert_eq!(raw_manifest(&copied), raw_manifest(&list), "byte for byte");
    run(&["system", "reset", "--force"]);
    engine.docker(&["rmi", "-f", &several.name(), &single, &theirs, &back, &list, &copied]).ok();
}
