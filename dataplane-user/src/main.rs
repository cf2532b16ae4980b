//! The binary `spandrel`: agent, command line and shim in one file.

use std::process::ExitCode;

fn main() -> ExitCode {
    spandrel::cli::main()
}
