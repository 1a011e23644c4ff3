//! The index on a real disk: names, durability, rebuilding.

use super::*;
use coracle_spec::Digest;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["containers", "volumes", "trash"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    dir
}

fn record(id: &ContainerId, name: &str) -> String {
    format!(r#"{{"version":1,"id":"{id}","name":"{name}"}}"#)
}

async fn put(index: &Index, root: &Path, id: &ContainerId, name: &str, durability: Durability) -> Result<()> {
    fs::create_dir_all(root.join("containers").join(id.as_str())).unwrap();
    index.put_container(id, &name.parse().unwrap(), record(id, name), durability).await
}

fn row(content: &str, references: &[&str]) -> ImageRow {
    let references = references.iter().map(|&name| name.to_owned()).collect();
    ImageRow {
        id: Digest::of(content.as_bytes()),
        record: format!(r#"{{"last_tagged":{}}}"#, content.len()),
        references,
    }
}

#[tokio::test]
async fn only_root_reads_what_may_be_secret() {
    use std::os::unix::fs::PermissionsExt;
    let dir = root();
    fs::write(dir.path().join("meta.db"), "").unwrap();
    let index = Index::open(dir.path()).await.unwrap();
    let id = ContainerId::random();
    put(&index, dir.path(), &id, "web", Durability::Durable).await.unwrap();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm", &format!("containers/{id}/record.json")] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn room_for_a_full_disk_is_kept_over_a_clean_end() {
    use std::os::unix::fs::MetadataExt;
    let dir = root();
    let room = || fs::metadata(dir.path().join(database::LOG)).map_or(0, |log| log.blocks() * 512);
    for name in ["one", "two"] {
        let index = Index::open(dir.path()).await.unwrap();
        put(&index, dir.path(), &ContainerId::random(), name, Durability::Durable).await.unwrap();
        index.flush().await.unwrap();
        assert!(room() >= crate::limits::INDEX_RESERVE, "{name}: {}", room());
        drop(index);
        assert!(room() >= crate::limits::INDEX_RESERVE, "{name}, at its end: {}", room());
    }
    let index = Index::open(dir.path()).await.unwrap();
    assert_eq!(index.containers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_name_belongs_to_one_container() {
    let dir = root();
    let index = Index::open(dir.path()).await.unwrap();
    let (first, second) = (ContainerId::random(), ContainerId::random());
    put(&index, dir.path(), &first, "web", Durability::Durable).await.unwrap();
    let taken = format!(
        "Conflict. The container name \"/web\" is already in use by container \"{first}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    );
    let error = put(&index, dir.path(), &second, "web", Durability::Durable).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(text) if *text == taken), "{error}");
    put(&index, dir.path(), &second, "db", Durability::Deferred).await.unwrap();
    let rename = |id: ContainerId, name: &'static str| {
        let index = &index;
        async move {
            index.put_container(&id, &name.parse().unwrap(), record(&id, name), Durability::Durable).await
        }
    };
    assert!(matches!(rename(second.clone(), "web").await, Err(Error::Conflict(_))));
    rename(first.clone(), "www").await.unwrap();
    rename(second.clone(), "web").await.unwrap();
    assert_eq!(index.containers().await.unwrap(), [record(&first, "www"), record(&second, "web")]);
    index.remove_container(&first).await.unwrap();
    index.remove_container(&first).await.unwrap();
    assert_eq!(index.containers().await.unwrap(), [record(&second, "web")]);
}

#[tokio::test]
async fn everything_is_there_after_opening_again_and_after_losing_the_database() {
    let dir = root();
    let id = ContainerId::random();
    let index = Index::open(dir.path()).await.unwrap();
    put(&index, dir.path(), &id, "web", Durability::Deferred).await.unwrap();
    let index = tokio::task::spawn_blocking(move || {
        index.put_images(vec![row("old", &["docker.io/library/a:1", "docker.io/library/a:2"])]).unwrap();
        index
            .put_images(vec![
                row("newer", &["docker.io/library/a:2"]),
                row("old", &["docker.io/library/a:1"]),
            ])
            .unwrap();
        index
    });
    let index = index.await.unwrap();
    let volume: Name = "data".parse().unwrap();
    fs::create_dir(dir.path().join("volumes/data")).unwrap();
    fs::create_dir(dir.path().join("volumes/stranger")).unwrap();
    let stored = |index: &Index| index.put_volume(&volume, r#"{"name":"data"}"#.to_owned());
    std::thread::scope(|scope| scope.spawn(|| stored(&index)).join().unwrap()).unwrap();
    drop(index);

    type Harm = fn(&Path);
    let damage: [(&str, Harm); 6] = [
        ("nothing", |_| {}),
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("no database", |path| fs::write(path, "rubbish").unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("cut off", |path| {
            let content = fs::read(path).unwrap();
            fs::write(path, &content[..content.len() / 2]).unwrap();
        }),
        ("damaged inside", |path| {
            let mut content = fs::read(path).unwrap();
            let length = content.len();
            content[4096..length].fill(0x5a);
            fs::write(path, content).unwrap();
        }),
    ];
    for (case, harm) in damage {
        harm(&dir.path().join("meta.db"));
        let index = Index::open(dir.path()).await.unwrap();
        assert_eq!(index.containers().await.unwrap(), [record(&id, "web")], "{case}");
        let (volumes, mut images) = std::thread::scope(|scope| {
            scope.spawn(|| (index.volumes().unwrap(), index.images().unwrap())).join().unwrap()
        });
        assert_eq!(volumes, [r#"{"name":"data"}"#], "{case}");
        images.sort_by_key(|row| row.record.clone());
        let expected = [row("old", &["docker.io/library/a:1"]), row("newer", &["docker.io/library/a:2"])];
        assert_eq!(images, expected, "{case}");
    }
    let aside = fs::read_dir(dir.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("meta.db.damaged-")
    });
    assert!(aside.count() >= 2);
    assert!(dir.path().join("volumes/stranger").exists());
}

/// Where the writer below finds its data root; it does nothing without.
const ROOT: &str = "CORACLE_TEST_INDEX_ROOT";

/// Not a test of its own: adds containers, saying each that was answered, until it is killed.
#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn writer_that_is_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let index = Index::open(Path::new(&root)).await.unwrap();
    for number in 0.. {
        let durability = if number % 10 == 9 { Durability::Durable } else { Durability::Deferred };
        let (id, name) = (ContainerId::random(), format!("c-{number}"));
        index.put_container(&id, &name.parse().unwrap(), record(&id, &name), durability).await.unwrap();
        rustix::io::write(rustix::stdio::stdout(), format!("{id}\n").as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn what_was_answered_is_there_when_the_process_was_killed() {
    let dir = root();
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "index::tests::writer_that_is_killed", "--ignored", "--nocapture"])
        .env(ROOT, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut answered = Vec::new();
    for line in lines.map_while(std::io::Result::ok) {
        answered.extend(line.parse::<ContainerId>());
        if answered.len() == 500 {
            writer.kill().unwrap();
        }
    }
    writer.wait().unwrap();
    assert!(answered.len() >= 500, "the writer ended early");
    let index = Index::open(dir.path()).await.unwrap();
    let there = index.containers().await.unwrap();
    for id in answered {
        assert!(there.iter().any(|record| record.contains(id.as_str())), "{id} was answered and is gone");
    }
}

#[tokio::test]
async fn a_use_of_an_image_is_written_with_the_next_durable_change_and_goes_with_the_image() {
    let dir = root();
    let index = Index::open(dir.path()).await.unwrap();
    let written = || {
        let connection = rusqlite::Connection::open(dir.path().join("meta.db")).unwrap();
        let count: i64 =
            connection.query_row("SELECT count(*) FROM image_uses", [], |row| row.get(0)).unwrap();
        count
    };
    let (id, gone) = (row("1", &[]).id, row("22", &[]).id);
    let now = time::OffsetDateTime::now_utc();
    let index = tokio::task::spawn_blocking(move || {
        index.put_images(vec![row("1", &[])]).unwrap();
        index.note_image_use(id, now);
        index.note_image_use(gone, now);
        index.put_images(vec![row("333", &[])]).unwrap();
        index
    })
    .await
    .unwrap();
    assert_eq!(written(), 1, "the one of an image that is there, and without the end of the index");
    let uses = tokio::task::spawn_blocking(move || {
        let uses = index.image_uses().unwrap();
        index.remove_image(&id).unwrap();
        uses
    });
    assert_eq!(uses.await.unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
    assert_eq!(written(), 0);
}
