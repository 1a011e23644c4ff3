//! A container that is prepared and not started yet: all that its plan asks for and that does not depend on what runs, its
//! first process waiting.

use super::connections::Connections;
use super::container::Belongings;
use super::names::Resolver;
use super::streams::{self, Pipes};
use crate::cgroup::{Entry, Group};
use crate::error::{Error, Result};
use crate::layers;
use crate::protocol::{Overlay, Plan, Stdin};
use crate::sandbox::{self, Ground, Joins, Streams};
use coracle_spec::runtime::Spec;
use coracle_sys::keyring;
use coracle_sys::mount;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What is made once, whatever becomes of the rest.
pub(super) struct Prepared {
    pub(super) connections: Connections,
    /// Answers the container's queries.
    pub(super) resolver: Option<Resolver>,
    /// Namespaces that the container joins.
    joins: Joins,
    place: Kept,
}

/// A place, if one could be made. What nobody takes out is given up with this value, and nothing of it stays.
#[derive(Default)]
struct Kept(Option<Place>);

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(place) = self.0.take() else { return };
        place.sandbox.dismiss();
        if let Err(error) = place.group.remove() {
            super::eprintln_log(&error.chain());
        }
    }
}

/// What fits every plan with the same ground, layers and input.
pub(super) struct Place {
    ground: Ground,
    layers: Overlay,
    stdin: Stdin,
    pub(super) overlay: mount::Overlay,
    pub(super) group: Group,
    pub(super) entry: Entry,
    pub(super) streams: (Streams, Pipes),
    pub(super) sandbox: sandbox::Prepared,
    /// The container's user namespace, if it has one.
    pub(super) user: Option<OwnedFd>,
}

impl Prepared {
    /// Makes what the container has in any case; its place is still missing.
    ///
    /// # Errors
    /// When the container could not be reached, or could not find others.
    pub(super) fn new(plan: &Plan, belongings: &mut Belongings) -> Result<Self> {
        begin_session()?;
        let connections = Connections::open(&plan.state_directory)?;
        let (datagrams, listener) = (belongings.datagrams.take(), belongings.listener.take());
        let resolver = Resolver::new(plan.names.as_ref(), datagrams, listener)?;
        let joins = std::mem::take(&mut belongings.joins);
        Ok(Self { connections, resolver, joins, place: Kept::default() })
    }

    /// Makes the place for `plan`, unless it is there. One that fits another plan is given up.
    ///
    /// # Errors
    /// What is in its way.
    pub(super) fn make_place(&mut self, plan: &Plan) -> Result<()> {
        if self.place.0.as_ref().is_some_and(|place| place.fits(plan)) {
            return Ok(());
        }
        // Both would have the same group.
        self.place = Kept::default();
        self.place = Kept(Some(Place::new(plan, &self.joins)?));
        Ok(())
    }

    /// Gives out the place for `plan`, and what was made beside it.
    ///
    /// # Errors
    /// As [`Prepared::make_place`].
    pub(super) fn settle(mut self, plan: &Plan) -> Result<(Place, Connections, Option<Resolver>)> {
        self.make_place(plan)?;
        self.resolve_for(plan)?;
        let missing = || Error::Invalid("there is no place for the container".to_owned());
        let place = self.place.0.take().ok_or_else(missing)?;
        Ok((place, self.connections, self.resolver))
    }

    /// The same for a container whose place another runtime makes.
    ///
    /// # Errors
    /// When the container could not find others.
    pub(super) fn settle_elsewhere(mut self, plan: &Plan) -> Result<(Joins, Connections, Option<Resolver>)> {
        self.resolve_for(plan)?;
        Ok((self.joins, self.connections, self.resolver))
    }

    fn resolve_for(&mut self, plan: &Plan) -> Result<()> {
        match (&mut self.resolver, &plan.names) {
            (Some(resolver), Some(names)) => resolver.become_for(names),
            _ => Ok(()),
        }
    }
}

/// Leaves the session keyring of whoever started the engine: the container would have its keys, as everything that the shim
/// makes inherits what the shim has. Execs are in the container's by the same way, and nothing is looked for by name, which
/// others could give theirs (as runc's `_ses.ID`).
fn begin_session() -> Result<()> {
    match keyring::begin_session() {
        // No keys in this kernel, or none for anybody here: what forbids the call goes on to the container.
        Err(error) if matches!(error.errno(), Some(Errno::NOSYS | Errno::PERM)) => Ok(()),
        begun => Ok(begun?),
    }
}

impl Place {
    fn new(plan: &Plan, joins: &Joins) -> Result<Self> {
        // For the start, and for the first process, which has what is open now.
        coracle_sys::rooted::prove_procfs()?;
        let ground = Ground::of(&plan.spec);
        let owners = plan.owners();
        let mapping = joins.user.as_ref().zip(owners.as_ref());
        let overlay = layers::overlay(&plan.root, mapping.map(|(user, owners)| (user.as_fd(), owners)))?;
        let process = plan.spec.process.clone().unwrap_or_default();
        let streams = streams::of(&process, plan.stdin != Stdin::Closed, owners.as_ref())?;
        let user = joins.user.as_ref().map(OwnedFd::try_clone).transpose().map_err(super::duplicate)?;
        let group = make_group(&plan.spec, plan)?;
        let entry_and_sandbox = group.entry().and_then(|entry| {
            let sandbox = sandbox::prepare(&ground, (&group, &entry), joins)?;
            Ok((entry, sandbox))
        });
        let (entry, sandbox) = entry_and_sandbox.inspect_err(|_| {
            // The reason of the failure matters more than a directory that is left for the engine to remove.
            let _ = group.remove();
        })?;
        Ok(Self {
            ground,
            layers: plan.root.clone(),
            stdin: plan.stdin,
            overlay,
            group,
            entry,
            streams,
            sandbox,
            user,
        })
    }

    /// Whether this is what [`Place::new`] would make for `plan`, given the same namespaces.
    fn fits(&self, plan: &Plan) -> bool {
        let is_same =
            self.layers == plan.root && self.stdin == plan.stdin && *self.group.layout() == plan.cgroups;
        is_same && self.ground == Ground::of(&plan.spec)
    }
}

/// The cgroup that a configuration names.
pub(super) fn cgroup_of(spec: &Spec) -> Result<&str> {
    let path = spec.linux.as_ref().map(|linux| linux.cgroups_path.as_str()).filter(|path| !path.is_empty());
    path.ok_or_else(|| Error::Invalid("the configuration names no cgroup".to_owned()))
}

fn make_group(spec: &Spec, plan: &Plan) -> Result<Group> {
    let group = Group::create(&plan.cgroups, Path::new(cgroup_of(spec)?))?;
    if let Some(resources) = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        group.apply(resources).inspect_err(|_| {
            // As above: the refused limit is what the caller must hear of.
            let _ = group.remove();
        })?;
    }
    Ok(group)
}
