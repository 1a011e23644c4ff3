//! The rules, by Docker's names.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Names of stages are in small letters.
    StageNameCasing,
    /// `AS` is written as `FROM` is.
    FromAsCasing,
    /// No empty line stands in a continued instruction.
    NoEmptyContinuation,
    /// All instructions are written in capitals, or none.
    ConsistentInstructionCasing,
    /// No two stages have a name in common.
    DuplicateStageName,
    /// No stage is called `scratch` or `context`.
    ReservedStageName,
    /// What runs in the container gets its signals, with no shell in between.
    JSONArgsRecommended,
    /// `MAINTAINER` is a label now.
    MaintainerDeprecated,
    /// Arguments of `FROM` are declared before the first stage.
    UndefinedArgInFrom,
    /// Where a stage works does not depend on its base.
    WorkdirRelativePath,
    /// Variables are defined before they are used.
    UndefinedVar,
    /// Of instructions that replace each other one is enough.
    MultipleInstructionsDisallowed,
    /// Names and values have a `=` between them.
    LegacyKeyValueFormat,
    /// A stage is for the wanted platform by itself.
    RedundantTargetPlatform,
    /// Secrets are in no argument and no environment.
    SecretsUsedInArgOrEnv,
    /// The defaults of arguments give an image.
    InvalidDefaultArgInFrom,
    /// What a build is for is the client's to say.
    FromPlatformFlagConstDisallowed,
    /// What is copied is not what is left out.
    CopyIgnoredFile,
    /// A comment above a stage or argument describes it.
    InvalidDefinitionDescription,
    /// Protocols are in small letters.
    ExposeProtoCasing,
    /// Ports are published when a container is made.
    ExposeInvalidFormat,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::StageNameCasing,
        Self::FromAsCasing,
        Self::NoEmptyContinuation,
        Self::ConsistentInstructionCasing,
        Self::DuplicateStageName,
        Self::ReservedStageName,
        Self::JSONArgsRecommended,
        Self::MaintainerDeprecated,
        Self::UndefinedArgInFrom,
        Self::WorkdirRelativePath,
        Self::UndefinedVar,
        Self::MultipleInstructionsDisallowed,
        Self::LegacyKeyValueFormat,
        Self::RedundantTargetPlatform,
        Self::SecretsUsedInArgOrEnv,
        Self::InvalidDefaultArgInFrom,
        Self::FromPlatformFlagConstDisallowed,
        Self::CopyIgnoredFile,
        Self::InvalidDefinitionDescription,
        Self::ExposeProtoCasing,
        Self::ExposeInvalidFormat,
    ];

    /// Its name.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The rule of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// Where it is described.
    pub fn url(self) -> String {
        let mut kebab = String::new();
        let name = self.name();
        let letters: Vec<char> = name.chars().collect();
        for (at, letter) in letters.iter().enumerate() {
            let begins_word = letter.is_ascii_uppercase()
                && at > 0
                && (letters[at - 1].is_ascii_lowercase()
                    || letters.get(at + 1).is_some_and(char::is_ascii_lowercase));
            if begins_word {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{kebab}/")
    }

    /// What it is about, in one sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::StageNameCasing => "Stage names should be lowercase",
            Self::FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
            Self::NoEmptyContinuation => "Empty continuation lines will become errors in a future release",
            Self::ConsistentInstructionCasing => {
                "All commands within the Dockerfile should use the same casing"
            }
            Self::DuplicateStageName => "Stage names should be unique",
            Self::ReservedStageName => "Reserved words should not be used as stage names",
            Self::JSONArgsRecommended => "JSON arguments are recommended so that signals reach the program",
            Self::MaintainerDeprecated => "MAINTAINER is deprecated, a label says who made an image",
            Self::UndefinedArgInFrom => "FROM must use declared ARGs",
            Self::WorkdirRelativePath => "A relative WORKDIR depends on the base image",
            Self::UndefinedVar => "Variables should be defined before their use",
            Self::MultipleInstructionsDisallowed => "Only the last of these instructions in a stage is used",
            Self::LegacyKeyValueFormat => "Names and values should have an equals sign between them",
            Self::RedundantTargetPlatform => "Setting the platform to $TARGETPLATFORM is redundant",
            Self::SecretsUsedInArgOrEnv => "Sensitive data should not be in ARG or ENV",
            Self::InvalidDefaultArgInFrom => "The default value of a global ARG gives no valid base image",
            Self::FromPlatformFlagConstDisallowed => "FROM --platform should not have a constant value",
            Self::CopyIgnoredFile => "What is copied is left out by .dockerignore",
            Self::InvalidDefinitionDescription => {
                "A comment above a stage or argument should begin with its name"
            }
            Self::ExposeProtoCasing => "Protocols in EXPOSE should be lowercase",
            Self::ExposeInvalidFormat => "EXPOSE should have no address and no port of the host",
        }
    }

    /// Whether it is only checked where somebody asks for it.
    pub(super) fn is_experimental(self) -> bool {
        matches!(self, Self::CopyIgnoredFile | Self::InvalidDefinitionDescription)
    }
}
