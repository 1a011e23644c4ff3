//! The options in front of an instruction's arguments.

use crate::error::{Error, Result};

/// Options that have not been asked for yet.
pub(super) struct Flags {
    left: Vec<(String, Option<String>)>,
    /// Names that were asked for.
    known: Vec<&'static str>,
}

impl Flags {
    pub(super) fn new(flags: &[(String, Option<String>)]) -> Self {
        Self { left: flags.to_vec(), known: Vec::new() }
    }

    /// All values of an option that may come several times.
    pub(super) fn all(&mut self, name: &'static str) -> Result<Vec<String>> {
        self.known.push(name);
        let (found, left) = std::mem::take(&mut self.left).into_iter().partition(|(flag, _)| flag == name);
        self.left = left;
        let value = |(_, value): (String, Option<String>)| {
            value.ok_or_else(|| Error::value("missing a value on flag", name))
        };
        Vec::into_iter(found).map(value).collect()
    }

    /// The value of an option that comes once at most.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        let mut values = self.all(name)?;
        let value = values.pop();
        if values.is_empty() { Ok(value) } else { Err(Error::value("duplicate flag specified", name)) }
    }

    /// Whether something is wanted; `None` where the option is not there.
    pub(super) fn switch(&mut self, name: &'static str) -> Result<Option<bool>> {
        for flag in self.left.iter_mut().filter(|(flag, value)| flag == name && value.is_none()) {
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
        match self.left.first() {
            Some((flag, _)) => Err(Error::unknown_flag(flag, &self.known)),
            None => Ok(()),
        }
    }
}
