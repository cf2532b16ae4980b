//! `cargo xtask`: everything a developer does with Spandrel beside editing it. Each subcommand is one module; this file
//! is only their command line. Nothing here is part of the product.

mod apt;
mod bench;
mod build;
mod demo;
mod dist;
mod fuzz;
mod kernels;
mod peers;
mod privilege;
mod progress;
mod python;
mod run;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Build, run, test and measure Spandrel.
///
/// Start with `cargo xtask build`. All output goes below cargo's target folder (CARGO_TARGET_DIR is respected);
/// nothing is installed on the system.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(build::BuildArgs),
    Run(run::RunArgs),
    Test(test::TestArgs),
    Demo(demo::DemoArgs),
    Fuzz(fuzz::FuzzArgs),
    Bench(bench::BenchArgs),
    Dist(dist::DistArgs),
    #[command(hide = true)]
    Probe(demo::probe::ProbeArgs),
    #[command(hide = true)]
    Guest,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Guest) {
        kernels::guest::run();
    }
    // Runs inside containers, where there is no workspace.
    if let Command::Probe(args) = &cli.command {
        return demo::probe::run(args);
    }
    let result = Workspace::locate().and_then(|workspace| match cli.command {
        Command::Build(args) => build::run(&workspace, &args),
        Command::Run(args) => run::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Fuzz(args) => fuzz::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Dist(args) => dist::run(&workspace, &args),
        Command::Probe(_) | Command::Guest => Ok(()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
