//! The grammar of `spandrel apply` and `down`.

use std::path::PathBuf;

use clap::Args;

/// `spandrel apply`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "The file declares networks, containers, ports and who may use them, in TOML or YAML. What is missing is made, what \
                       differs is changed, in place where that is possible, and what the file made once and does not name any more is \
                       removed. A second time there is nothing to do. Everything is labelled with the file's `name`; what was not made by \
                       it is never touched. A file with something wrong in it changes nothing, and what a failed run had made is removed \
                       again. What it had to make anew and could not is missing then: mend the file and apply it again.

Examples:
  spandrel apply -f shop.toml
  spandrel apply -f shop.toml --dry-run      the plan alone
  spandrel apply -f shop.yaml --yes          without asking

  # shop.toml
  name = \"shop\"

  [networks.front]
  subnets = [\"10.0.0.0/24\", { subnet = \"fd00:a::/64\", gateway = \"fd00:a::1\" }]

  [networks.back]
  internal = true
  icc = false

  [containers.web]
  command = [\"python3\", \"-m\", \"http.server\", \"80\"]
  networks = [\"front\", \"back\"]
  ports = [\"8080:80\", { port = \"8443:443\", allow-from = [\"10.0.0.0/8\"], rate-limit = \"100/s\" }]
  environment = { LANG = \"C\" }

  [containers.db]
  command = [\"sleep\", \"infinity\"]
  networks.back = { aliases = [\"store\"], gw-priority = 1 }"
)]
pub(in crate::cli) struct Apply {
    /// The file; its name ends in .toml, .yaml or .yml
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(in crate::cli) dry_run: bool,
    /// Do it without asking
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
}

/// `spandrel down`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel down -f shop.toml
  spandrel down -f shop.toml --yes      without asking")]
pub(in crate::cli) struct Down {
    /// The file that was applied
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(in crate::cli) dry_run: bool,
    /// Do it without asking
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
}
