//! Images that are kept whatever happens: by their label, or because somebody said so. A pin on a name holds for whatever
//! has that name, also later; a pin on an id for that image.

use super::catalogue::Known;
use super::{Images, Inner, lookup};
use crate::error::{Error, Result};
use crate::index::Index;
use coracle_spec::Reference;
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// The label that pins an image, with the value `true`.
pub const LABEL: &str = "coracle.pin";

/// What was pinned by hand: names with everything spelt out, and whole ids.
#[derive(Debug)]
pub(super) struct Pins(RwLock<BTreeSet<String>>);

/// Why an image is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By its label.
    Label,
    /// By this name.
    Name(Reference),
    /// By its id.
    Id,
}

impl Pins {
    pub(super) fn open(index: &Index) -> Result<Self> {
        Ok(Self(RwLock::new(index.pins()?)))
    }

    /// What pins an image.
    pub(super) fn of(&self, image: &Known) -> Option<Pin> {
        if image.labels.get(LABEL).is_some_and(|value| value == "true") {
            return Some(Pin::Label);
        }
        let id = || self.read().contains(&image.id.to_string()).then_some(Pin::Id);
        self.of_names(&image.references).or_else(id)
    }

    /// What pins an image to which these names lead.
    pub(super) fn of_names<'a>(&self, names: impl IntoIterator<Item = &'a Reference>) -> Option<Pin> {
        let pins = self.read();
        let pinned = names.into_iter().find(|name| pins.contains(&name.canonical()));
        pinned.cloned().map(Pin::Name)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeSet<String>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    /// Pins what is called so: the name, or the image where it is a beginning of its id. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn pin(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |inner| inner.pin(&name)).await
    }

    /// Takes a pin away, also that of a name that nothing has any more. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such pin, and [`Error::Conflict`] for an image that its label pins.
    pub async fn unpin(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |inner| inner.unpin(&name)).await
    }
}

impl Inner {
    fn pin(&self, wanted: &str) -> Result<()> {
        let _change = self.change();
        let image = self.find(wanted)?;
        self.change_pins(|pins| pins.insert(target(wanted, &image)))
    }

    fn unpin(&self, wanted: &str) -> Result<()> {
        let _change = self.change();
        let image = self.find(wanted);
        let target = match &image {
            Ok(image) => target(wanted, image),
            Err(_) => lookup::key(lookup::parse(wanted)?).canonical(),
        };
        let is_pinned = self.pins.read().contains(&target);
        if is_pinned {
            self.change_pins(|pins| pins.remove(&target))?;
            self.holds.may_have_grown();
            return Ok(());
        }
        match image.ok().and_then(|image| self.pins.of(&image)) {
            None => Err(Error::NotFound { kind: "pin", name: wanted.to_owned() }),
            Some(Pin::Label) => {
                Err(Error::Conflict(format!("{wanted} is pinned by its label {LABEL}, which is part of it")))
            }
            Some(Pin::Name(name)) => Err(Error::Conflict(format!(
                "{wanted} is pinned by the name {}: unpin that",
                name.familiar()
            ))),
            Some(Pin::Id) => Err(Error::Conflict(format!("{wanted} is pinned by its id: unpin that"))),
        }
    }

    /// The index first: what is answered is durable.
    fn change_pins(&self, change: impl FnOnce(&mut BTreeSet<String>) -> bool) -> Result<()> {
        let mut pins = self.pins.read().clone();
        if change(&mut pins) {
            self.index.put_pins(&pins)?;
            *self.pins.0.write().unwrap_or_else(PoisonError::into_inner) = pins;
        }
        Ok(())
    }
}

/// What is pinned when somebody names an image so.
fn target(wanted: &str, image: &Known) -> String {
    let by_id = lookup::is_beginning_of(&image.id, wanted);
    let name = lookup::parse(wanted).ok().map(lookup::key).filter(|name| image.references.contains(name));
    match name.filter(|_| !by_id) {
        Some(name) => name.canonical(),
        None => image.id.to_string(),
    }
}
