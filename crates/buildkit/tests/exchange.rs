//! Both halves of the protocol against each other, over a connection in memory.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use bytes::Bytes;
use coracle_buildkit::proto::fsutil::types::Stat;
use coracle_buildkit::{
    Error, Login, Offer, Selection, Session, Sessions, Target, check_agent, credentials, directory as ask,
    forward_agent, secret, send_file, send_tree,
};
use coracle_tests::lender::{DIRECTORY, Lender, Lent, METHODS, directory, file};
use futures_util::stream;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A session of a client that has all this.
async fn open(lender: Lender) -> (Arc<Lender>, Arc<Sessions>, Arc<Session>) {
    open_offering(lender, &METHODS).await
}

async fn open_offering(
    lender: Lender,
    methods: &[&'static str],
) -> (Arc<Lender>, Arc<Sessions>, Arc<Session>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let lender = Arc::new(lender);
    let serving = Arc::clone(&lender);
    tokio::spawn(async move { serving.serve(theirs).await });
    let sessions = Arc::new(Sessions::default());
    let offer = Offer::new("session", methods.iter().copied()).unwrap();
    let keeping = Arc::clone(&sessions);
    tokio::spawn(async move { keeping.serve(offer, ours).await });
    let session = sessions.get("session").await.unwrap();
    (lender, sessions, session)
}

/// What an archive has: paths, kinds and contents.
async fn unpack(mut archive: coracle_buildkit::Archive) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut bytes = Vec::new();
    while let Some(part) = archive.next().await {
        bytes.extend_from_slice(&part?);
    }
    let mut found = Vec::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.push((entry.path().unwrap().display().to_string(), content));
    }
    Ok(found)
}

#[tokio::test]
async fn a_directory_arrives_whole_and_in_order() {
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut files =
        vec![directory("a"), file("a/empty", ""), file("a/large", large.clone()), file("a/small", "s")];
    files.extend((0..2000).map(|number| file(&format!("b{number:05}"), format!("{number}"))));
    let lender = Lender { directories: [("context".to_owned(), files.clone())].into(), ..Lender::default() };
    let (lender, _sessions, session) = open(lender).await;
    let selection = Selection { exclude: vec!["*.md".into(), "ä".into()], ..Selection::default() };
    let archive = ask(&session, "context", &selection).unwrap();
    let found = unpack(archive).await.unwrap();
    let expected: Vec<_> = files.into_iter().map(|lent| (lent.stat.path, lent.content)).collect();
    assert!(found == expected, "{} files came, {} were sent", found.len(), expected.len());
    assert_eq!(lender.asked_for("exclude-patterns"), ["%2A%2Emd", "%C3%A4"]);
}

#[tokio::test]
async fn what_a_client_does_not_lend_is_not_had() {
    let (_lender, _sessions, session) = open(Lender::default()).await;
    let refused = unpack(ask(&session, "nothing", &Selection::default()).unwrap()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Call { source, .. } if source.code() == tonic::Code::NotFound),
        "{refused:?}"
    );
    let (_lender, _sessions, session) = open_offering(Lender::default(), &[]).await;
    let refused = ask(&session, "context", &Selection::default()).unwrap_err();
    assert!(matches!(refused, Error::NotOffered { .. }), "{refused:?}");
    assert_eq!(secret(&session, "s").await.unwrap(), None);
    assert_eq!(credentials(&session, "docker.io").await.unwrap(), None);
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_is_an_error() {
    let files = vec![file("large", vec![0; 8 << 20])];
    let lender = Lender { directories: [("context".to_owned(), files)].into(), ..Lender::default() };
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let lender = Arc::new(lender);
    let serving = tokio::spawn(async move { lender.serve(theirs).await });
    let sessions = Arc::new(Sessions::default());
    let keeping = Arc::clone(&sessions);
    let kept = tokio::spawn(async move { keeping.serve(Offer::new("s", METHODS).unwrap(), ours).await });
    let session = sessions.get("s").await.unwrap();
    let mut archive = ask(&session, "context", &Selection::default()).unwrap();
    assert!(archive.next().await.unwrap().is_ok(), "it begins");
    serving.abort();
    let refused = unpack(archive).await.unwrap_err();
    assert!(matches!(refused, Error::Call { .. }), "{refused:?}");
    kept.await.unwrap().unwrap();
    drop(session);
    let (again, gone) = tokio::io::duplex(1);
    drop(gone);
    let again = sessions.serve(Offer::new("s", METHODS).unwrap(), again).await;
    assert!(!matches!(again, Err(Error::SessionExists { .. })), "its name is free");
}

#[tokio::test]
async fn a_session_has_one_client() {
    let (_lender, sessions, _session) = open(Lender::default()).await;
    let (second, _theirs) = tokio::io::duplex(1024);
    let refused = sessions.serve(Offer::new("session", []).unwrap(), second).await.unwrap_err();
    assert!(matches!(refused, Error::SessionExists { .. }), "{refused:?}");
    for (id, count) in [("", 0), (&"x".repeat(200), 0), ("many", 300)] {
        let methods: Vec<String> = (0..count).map(|number| format!("/m/{number}")).collect();
        let refused = Offer::new(id, methods.iter().map(String::as_str)).unwrap_err();
        assert!(matches!(refused, Error::Offer { .. }), "{id}");
    }
}

#[tokio::test]
async fn a_session_that_never_comes_is_waited_for_a_while() {
    let refused = Sessions::default().get("nobody").await.unwrap_err();
    assert_eq!(refused.to_string(), "no active session for nobody");
}

#[tokio::test]
async fn secrets_and_credentials_are_lent() {
    let login = ("me".to_owned(), "password".to_owned());
    let lender = Lender {
        secrets: [("key".to_owned(), b"\0secret".to_vec()), ("huge".to_owned(), vec![0; 600 << 10])].into(),
        logins: [
            ("registry-1.docker.io".to_owned(), login),
            ("other.test".to_owned(), (String::new(), "token".to_owned())),
        ]
        .into(),
        ..Lender::default()
    };
    let (_lender, _sessions, session) = open(lender).await;
    assert_eq!(secret(&session, "key").await.unwrap().as_deref(), Some(&b"\0secret"[..]));
    assert_eq!(secret(&session, "other").await.unwrap(), None);
    assert!(matches!(secret(&session, "huge").await, Err(Error::SecretSize { .. })));
    let password = Login::Password { user: "me".into(), password: "password".into() };
    assert_eq!(credentials(&session, "docker.io").await.unwrap(), Some(password.clone()));
    assert_eq!(credentials(&session, "other.test").await.unwrap(), Some(Login::Token("token".into())));
    assert_eq!(credentials(&session, "nobody.test").await.unwrap(), None);
    assert!(!format!("{password:?}").contains("password\""), "{password:?}");
}

#[tokio::test]
async fn a_stream_is_written_whole_or_not_at_all() {
    let (lender, _sessions, session) = open(Lender::default()).await;
    let target = Target { output: 3, attributes: [("image.name".to_owned(), "a:1".to_owned())].into() };
    let parts = [Ok(Bytes::from(vec![1; 700_000])), Ok(Bytes::from_static(b"end"))];
    send_file(&session, &target, stream::iter(parts)).await.unwrap();
    let came = lender.stream.lock().unwrap().clone();
    assert_eq!((came.len(), &came[700_000..]), (700_003, &b"end"[..]));
    assert_eq!(lender.asked_for("buildkit-attachable-exporter-id"), ["3"]);
    assert_eq!(lender.asked_for("exporter-md-image.name"), ["a:1"]);
    let broken = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("the disk is full"))];
    let refused = send_file(&session, &Target::default(), stream::iter(broken)).await.unwrap_err();
    assert!(matches!(refused, Error::Archive { .. }), "{refused:?}");
    assert_eq!(*lender.stream.lock().unwrap(), came, "half of it is not taken for the whole");
}

/// An archive as engines make them.
fn archive(entries: &[(&str, tar::EntryType, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(1_700_000_000);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_size(0);
            builder.append_link(&mut header, path, content).unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn a_tree_is_written_file_by_file() {
    let (lender, _sessions, session) = open(Lender { takes_files: true, ..Lender::default() }).await;
    let long = "x".repeat(100_000);
    let archive = archive(&[
        ("./", tar::EntryType::Directory, 0o755, ""),
        ("a/", tar::EntryType::Directory, 0o1777, ""),
        ("a/f", tar::EntryType::Regular, 0o4755, &long),
        ("a/h", tar::EntryType::Link, 0o755, "a/f"),
        ("a/l", tar::EntryType::Symlink, 0o777, "../b"),
        ("b", tar::EntryType::Regular, 0o600, ""),
    ]);
    send_tree(&session, &Target::default(), io::Cursor::new(archive)).await.unwrap();
    let tree: Vec<Lent> = lender.tree.lock().unwrap().clone();
    let found: Vec<(&str, u32, &str, usize)> = tree
        .iter()
        .map(|lent| {
            let Stat { path, mode, linkname, .. } = &lent.stat;
            (path.as_str(), *mode, linkname.as_str(), lent.content.len())
        })
        .collect();
    let expected = [
        ("a", DIRECTORY | 1 << 20 | 0o777, "", 0),
        ("a/f", 1 << 23 | 0o755, "", 100_000),
        ("a/h", 0o755, "a/f", 0),
        ("a/l", 1 << 27 | 0o777, "../b", 0),
        ("b", 0o600, "", 0),
    ];
    assert_eq!(found, expected);
    let stat = &tree[1].stat;
    assert_eq!((stat.uid, stat.gid, stat.mod_time), (1, 2, 1_700_000_000_000_000_000));
}

#[tokio::test]
async fn a_tree_that_is_broken_is_never_whole() {
    let (lender, _sessions, session) = open(Lender { takes_files: true, ..Lender::default() }).await;
    let disorder =
        archive(&[("b", tar::EntryType::Regular, 0o600, ""), ("a", tar::EntryType::Regular, 0o600, "")]);
    let mut cut = archive(&[("a", tar::EntryType::Regular, 0o600, &"x".repeat(100_000))]);
    cut.truncate(50_000);
    for (what, archive) in [("disorder", disorder), ("cut", cut), ("no archive", vec![7; 1024])] {
        let refused = send_tree(&session, &Target::default(), io::Cursor::new(archive)).await.unwrap_err();
        assert!(matches!(refused, Error::Archive { .. }), "{what}: {refused:?}");
    }
    assert_eq!(*lender.tree.lock().unwrap(), Vec::new());
}

#[tokio::test]
async fn a_process_talks_to_the_clients_agent_until_it_closes() {
    let (lender, _sessions, session) =
        open(Lender { agent: Some("default".into()), ..Lender::default() }).await;
    assert!(check_agent(&session, "default").await.unwrap());
    assert!(!check_agent(&session, "other").await.unwrap());
    let (mut process, ours) = tokio::io::duplex(64);
    let forwarding = tokio::spawn(async move { forward_agent(&session, "default", ours).await });
    for words in ["hello", "again"] {
        process.write_all(words.as_bytes()).await.unwrap();
        let mut answer = [0; 5];
        process.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, words.to_ascii_uppercase().as_bytes());
    }
    drop(process);
    forwarding.await.unwrap().unwrap();
    assert_eq!(lender.asked_for("buildkit.ssh.id"), ["default"]);
}
