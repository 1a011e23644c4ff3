//! The files of one container as it sees them, with everything that is mounted below its root.
//!
//! A container that runs is reached through its shim's descriptor of the root, below which its own mounts are. One that
//! does not run gets its layers and mounts assembled in a mount namespace of the operation's own, in which no process is:
//! once, whoever asks meanwhile, as a second overlay on the same upper directory would destroy it.

use super::isolation;
use super::sizes::Changing;
use super::trees::Volumes;
use super::{Below, Description, MountPoint, trees};
use crate::engine::Shared;
use crate::error::{Attempt, Result};
use crate::images::Patience;
use crate::limits::COPY_STALL;
use coracle_store::{Snapshot, Tree};
use coracle_sys::error::Context;
use coracle_sys::mntns;
use coracle_sys::mount::{self, Attributes, Depth, Durability, Propagation, Writable};
use coracle_sys::rooted::Root;
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::{oneshot, watch};

/// Where a running container has file systems that are the kernel's; Docker shows empty directories there.
const KERNELS: [&str; 6] = ["proc", "sys", "sys/fs/cgroup", "dev", "dev/pts", "dev/mqueue"];

/// Mode of mount points that the image lacks.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// A container's files. Closing it can take a while, so it is dropped on threads that may block.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) tree: Tree,
    /// Ends when the container waits to start.
    pub(crate) patience: Option<Patience>,
    /// Whoever has the files may change them, also after the end of a container that ran.
    _changing: Option<Changing>,
    /// Keeps the mounts of a container that does not run; closed after the tree.
    _namespace: Option<OwnedFd>,
    /// Its volumes that are mounted for it.
    _volumes: Volumes,
    /// Dropped last, which tells [`Opened::closed`].
    _held: Option<oneshot::Sender<()>>,
}

/// What the container's task knows of a [`View`] of its layers that may still be in use.
#[derive(Debug)]
pub(crate) struct Opened {
    view: Weak<View>,
    impatient: watch::Sender<bool>,
    closed: oneshot::Receiver<()>,
}

impl Opened {
    /// The view, if somebody still uses it.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.view.upgrade()
    }

    /// Waits until nobody uses it and everything is unmounted; clients that do nothing are given up meanwhile.
    pub(crate) async fn closed(self) {
        // Nobody hears it where nobody uses the view.
        let _ = self.impatient.send(true);
        // The sender is only ever dropped.
        let _ = self.closed.await;
    }
}

impl View {
    /// The files of a container that runs, by its shim's descriptor of the root.
    pub(crate) fn of_running(shared: &Shared, container: &Description, root: OwnedFd) -> Result<Self> {
        let opening = || opening(container);
        // What the client mounts over something of the kernel's is the client's.
        let covered =
            |path: &str| container.mounts.iter().any(|m| m.destination.strip_prefix('/') == Some(path));
        let hidden: Vec<&str> = KERNELS.into_iter().filter(|path| !covered(path)).collect();
        let tree = Tree::new(Root::from_fd(root).attempt(opening)?, &hidden).attempt(opening)?;
        let tree = tree.of_others(isolation::owners_of_process(container.state.pid)?);
        let changing = Some(shared.sizes.changing(&container.id));
        Ok(Self { _changing: changing, ..Self::of(tree) })
    }

    fn of(tree: Tree) -> Self {
        Self { tree, patience: None, _changing: None, _namespace: None, _volumes: Vec::new(), _held: None }
    }

    /// The files of a container that does not run, and will not until the view is closed.
    pub(crate) fn of_stopped(shared: &Shared, container: &Description) -> Result<(Arc<Self>, Opened)> {
        let opening = || opening(container);
        let mut snapshot = shared.store.snapshot(&container.id, &container.layers).attempt(opening)?;
        snapshot.lower.push(shared.mount_points.clone());
        let (mounts, volumes) = Prepared::all(shared, container)?;
        let readonly = container.settings.host.readonly_root;
        let room = shared.store.room_to_mount(&container.id).attempt(opening)?;
        let assembled = assemble(&snapshot, Durability::Durable, &mounts, readonly);
        drop(room);
        let (root, namespace) = assembled.attempt(opening)?;
        make_working_directory(shared, container, &root)?;
        let (held, closed) = oneshot::channel();
        let tree = Tree::new(root, &[]).attempt(opening)?;
        let (impatient, patience) = Patience::new(COPY_STALL);
        let patience = Some(patience);
        let changing = Some(shared.sizes.changing(&container.id));
        let view = Arc::new(Self {
            tree,
            patience,
            _changing: changing,
            _namespace: Some(namespace),
            _volumes: volumes,
            _held: Some(held),
        });
        let opened = Opened { view: Arc::downgrade(&view), impatient, closed };
        Ok((view, opened))
    }
}

/// Makes the working directory of a container that was never started, as Docker has by now. In a user namespace it is left to
/// the start, whose root is to own it.
fn make_working_directory(shared: &Shared, container: &Description, root: &Root) -> Result<()> {
    let settings = &container.settings;
    let is_made = container.state.started_at.is_some() || settings.working_dir.is_empty();
    if !is_made && !settings.host.readonly_root && isolation::owners_at_start(shared, settings)?.is_none() {
        // What is in its way is told of at the start.
        let _ = root.create_dir_all(&settings.working_dir, DIRECTORY);
    }
    Ok(())
}

/// The files of a root that is no container's. What is written is on the disk once it is a layer.
///
/// # Errors
/// The kernel's.
pub(crate) fn of_scratch(snapshot: &Snapshot) -> Result<View> {
    let opening = || "open the files of a step of a build".to_owned();
    let (root, namespace) = assemble(snapshot, Durability::Volatile, &[], false).attempt(opening)?;
    let tree = Tree::new(root, &[]).attempt(opening)?;
    Ok(View { _namespace: Some(namespace), ..View::of(tree) })
}

fn opening(container: &Description) -> String {
    format!("open the files of container {}", container.id)
}

/// A mount that will be attached: a detached copy, made in the host's mount namespace.
struct Prepared {
    copy: OwnedFd,
    directory: bool,
    destination: PathBuf,
}

impl Prepared {
    /// Volumes, bind mounts and the files that the last run had of its network, those above others first; and the volumes that
    /// are mounted for that.
    fn all(shared: &Shared, container: &Description) -> Result<(Vec<Self>, Volumes)> {
        let (mut all, mut volumes) = (Vec::new(), Vec::new());
        for point in &container.mounts {
            all.push(if point.is_tree() {
                let opened = trees::open(shared, point, None)?;
                volumes.extend(opened.volume);
                Self::of_tree(point, opened.tree).attempt(|| opening(container))?
            } else {
                Self::new(point).attempt(|| opening(container))?
            });
        }
        let state = shared.state_directory(&container.id);
        for name in ["hostname", "hosts", "resolv.conf"] {
            let (source, destination) = (state.join(name), format!("/etc/{name}"));
            if source.is_file() && !container.mounts.iter().any(|mount| mount.destination == destination) {
                let source = source.display().to_string();
                let point = MountPoint { source, destination, writable: true, ..MountPoint::default() };
                all.push(Self::new(&point).attempt(|| opening(container))?);
            }
        }
        all.sort_by_key(|mount| mount.destination.components().count());
        Ok((all, volumes))
    }

    fn new(point: &MountPoint) -> coracle_sys::Result<Self> {
        let depth = if point.below == Below::Absent { Depth::One } else { Depth::Recursive };
        Self::of_tree(point, mount::copy_path(Path::new(&point.source), depth)?)
    }

    fn of_tree(point: &MountPoint, copy: OwnedFd) -> coracle_sys::Result<Self> {
        let none = Attributes::empty();
        // Private, or what is mounted below it would appear on the host.
        mount::change(copy.as_fd(), none, none, Some(Propagation::Private), Depth::Recursive)?;
        if !point.writable {
            let depth = if point.below == Below::Writable { Depth::One } else { Depth::Recursive };
            mount::change(copy.as_fd(), Attributes::MOUNT_ATTR_RDONLY, none, None, depth)?;
        }
        let stat = rustix::fs::fstat(&copy).context("fstat", &point.source)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(Self { copy, directory, destination: (&point.destination).into() })
    }

    fn attach(&self, root: &Root) -> coracle_sys::Result<()> {
        let target = if self.directory {
            root.create_dir_all(&self.destination, DIRECTORY)?
        } else {
            root.create_file(&self.destination)?
        };
        mount::attach(self.copy.as_fd(), target.as_fd())
    }
}

/// Mounts everything in a new mount namespace that holds nothing else. Returns the root, and the namespace.
fn assemble(
    snapshot: &Snapshot,
    durability: Durability,
    mounts: &[Prepared],
    readonly: bool,
) -> coracle_sys::Result<(Root, OwnedFd)> {
    let lower = snapshot.lower.iter().map(|path| open(path)).collect::<coracle_sys::Result<Vec<_>>>()?;
    let (upper, work) = (open(&snapshot.upper)?, open(&snapshot.work)?);
    let writable = Writable { upper: upper.as_fd(), work: work.as_fd(), durability };
    let overlay = mount::overlay(&lower, Some(writable))?;
    let root = Root::from_fd(overlay.try_clone().context("dup", "root")?)?;
    let (assembled, namespace) = mntns::in_new(|| {
        mount::attach(overlay.as_fd(), open(Path::new("/"))?.as_fd())?;
        mounts.iter().try_for_each(|mount| mount.attach(&root))?;
        if readonly {
            let read_only = Attributes::MOUNT_ATTR_RDONLY;
            mount::change(overlay.as_fd(), read_only, Attributes::empty(), None, Depth::One)?;
        }
        // Lets go of the host's mounts, which could not be unmounted otherwise.
        mount::pivot(overlay.as_fd(), 0)
    })?;
    assembled?;
    Ok((root, namespace))
}

fn open(path: &Path) -> coracle_sys::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open", path.display())
}
