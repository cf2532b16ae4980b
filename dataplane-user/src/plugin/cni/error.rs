//! Errors as runtimes read them: JSON on standard output, with a code of the specification's list or, from 100 on, one of ours.

use serde_json::{Value, json};

use super::Version;

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration is for a version that we do not speak.
    IncompatibleVersion,
    /// The configuration has a field that we do not do.
    Unsupported,
    /// The container is not known; the runtime need not clean up.
    UnknownContainer,
    /// A variable of the environment is missing or wrong.
    Environment,
    /// Reading or writing failed.
    Io,
    /// What was read is no JSON of the right shape.
    Decode,
    /// The configuration makes no sense.
    Config,
    /// The network namespace is not there, or is none.
    Netns,
    /// The agent is not there: it may be in a moment.
    TryAgain,
    /// STATUS: nobody can be attached now.
    NotAvailable,
    /// The agent refused: an address, port or name is taken.
    Refused,
    /// The agent failed.
    Failed,
    /// CHECK: something is not as it should be.
    Faulty,
    /// The code of a plugin that we called.
    Other(u32),
}

impl Code {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::Unsupported => 2,
            Code::UnknownContainer => 3,
            Code::Environment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::Config => 7,
            Code::Netns => 8,
            Code::TryAgain => 11,
            Code::NotAvailable => 50,
            Code::Refused => 100,
            Code::Failed => 101,
            Code::Faulty => 102,
            Code::Other(number) => number,
        }
    }
}

/// A failure, told in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of error it is.
    pub code: Code,
    /// The sentence.
    pub message: String,
}

impl Error {
    /// An error of that kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }

    /// As it is printed.
    pub fn to_json(&self, version: Version) -> Value {
        json!({"cniVersion": version.as_str(), "code": self.code.number(), "msg": self.message})
    }

    /// What another plugin printed when it failed; none if that is no error of the specification's shape.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let code = value["code"].as_u64().and_then(|code| u32::try_from(code).ok())?;
        let message = [&value["msg"], &value["details"]].map(|text| text.as_str().unwrap_or_default());
        let message: Vec<_> = message.into_iter().filter(|text| !text.is_empty()).collect();
        Some(Error::new(Code::Other(code), message.join(": ")))
    }
}
