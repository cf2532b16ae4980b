//! The grammar of `spandrel netavark`: netavark's, with the plugin's name left out.

use std::ffi::OsString;

use clap::Subcommand;

/// `spandrel netavark`.
#[derive(Debug, Subcommand)]
pub(crate) enum Netavark {
    /// Make a network, and print it with all that was left open
    #[command(after_long_help = "Examples:
  echo '{\"name\": \"web\", \"id\": \"0a\", \"driver\": \"spandrel\"}' | spandrel netavark create")]
    Create,
    /// Attach a container's namespace to a network
    #[command(after_long_help = "Examples:
  spandrel netavark setup /run/netns/web < setup.json")]
    Setup {
        /// The file of the namespace
        netns: OsString,
    },
    /// Take a container's namespace off a network
    #[command(after_long_help = "Examples:
  spandrel netavark teardown /run/netns/web < setup.json")]
    Teardown {
        /// The file of the namespace, which may be gone
        netns: OsString,
    },
    /// Print the plugin's version and that of the API
    #[command(after_long_help = "Examples:
  spandrel netavark info")]
    Info,
}
