//! The options in front of an instruction's arguments.

use crate::error::{Error, Result};

/// Options that have not been asked for yet.
pub(super) struct Flags(Vec<(String, Option<String>)>);

impl Flags {
    pub(super) fn new(flags: &[(String, Option<String>)]) -> Self {
        Self(flags.to_vec())
    }

    /// All values of an option that may come several times.
    pub(super) fn all(&mut self, name: &str) -> Result<Vec<String>> {
        let (found, left) = std::mem::take(&mut self.0).into_iter().partition(|(flag, _)| flag == name);
        self.0 = left;
        let value = |(_, value): (String, Option<String>)| {
            value.ok_or_else(|| Error::value("missing a value on flag", name))
        };
        Vec::into_iter(found).map(value).collect()
    }

    /// The value of an option that comes once at most.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.all(name)?;
        let value = values.pop();
        if values.is_empty() { Ok(value) } else { Err(Error::value("duplicate flag specified", name)) }
    }

    /// Whether something is wanted; `None` where the option is not there.
    pub(super) fn switch(&mut self, name: &str) -> Result<Option<bool>> {
        for flag in self.0.iter_mut().filter(|(flag, value)| flag == name && value.is_none()) {
            flag.1 = Some("true".to_owned());
        }
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                Err(Error::value("expecting boolean value for flag", &format!("{name}, not {other}")))
            }
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Result<()> {
        match self.0.into_iter().next() {
            Some((flag, _)) => Err(Error::UnknownFlag { flag }),
            None => Ok(()),
        }
    }
}
