//! `spandrel completion` and `spandrel man`: what is made of the grammar of the command line. `docs/cli.md` is, too, by this
//! module's test.

use std::fs;
use std::io;
use std::process::ExitCode;

use clap::CommandFactory;

use super::args::{Cli, Completion, Manual, Shell};
use super::error::Error;
use super::{Outcome, output};

/// Prints the completions for a shell.
pub(super) fn completion(command: &Completion) -> Outcome {
    let shell = match command.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "spandrel", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command.
pub(super) fn manual(command: &Manual) -> Outcome {
    let folder = &command.folder;
    let failed = |doing: &str, error: io::Error| Error::Local(format!("cannot {doing} {}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(|error| failed("make the folder", error))?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| failed("write manual pages in", error))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fmt::Write;
    use std::path::Path;

    use clap::{Arg, ArgAction, Command};

    use super::*;

    /// With this variable the test of `docs/cli.md` writes it.
    const UPDATE: &str = "SPANDREL_UPDATE_DOCS";

    const HEAD: &str = "# Command line\n\n\
        Every command of `spandrel`, its flags and examples; `spandrel COMMAND --help` says the same. Where Docker has a command or \
        flag, ours has its name and does the same.\n\n\
        This page is made of the program's own grammar, and a unit test fails when the two differ. After a change there, write it \
        again:\n\n\
        ```\nSPANDREL_UPDATE_DOCS=1 cargo test --package spandrel --lib cli::generate\n```\n\n\
        ## Completions and manual pages\n\n\
        ```\n\
        spandrel completion bash > /etc/bash_completion.d/spandrel\n\
        spandrel completion zsh > /usr/local/share/zsh/site-functions/_spandrel\n\
        spandrel completion fish > /etc/fish/completions/spandrel.fish\n\
        spandrel man /usr/local/share/man/man1\n\
        ```\n\n\
        ## Formats\n\n\
        Lists take `--format table` (the default), `'table TEMPLATE'` (columns by a Go template, tabs between them), `json` (one object a \
        line) or a template for each line; `inspect` takes `json` or a template. Templates are those of Docker: fields, `range`, `if`, \
        `with`, variables, pipes, comparisons, `printf`, `index`, `len`, and Docker's `json`, `join`, `split`, `lower`, `upper`, `title`, \
        `pad`, `truncate`. A field that does not exist is an error that says which there are.\n\n\
        ```\n\
        spandrel ps --format 'table {{.Names}}\\t{{.Ports}}'\n\
        spandrel network ls --filter label=tier=front --format '{{.Name}}: {{.Label \"tier\"}}'\n\
        spandrel inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' web\n\
        ```\n";

    fn document() -> String {
        let mut command = Cli::command().disable_help_subcommand(true).term_width(100);
        command.build();
        let mut text = HEAD.to_owned();
        write(&mut text, &command);
        text
    }

    fn write(text: &mut String, command: &Command) {
        let name = command.get_bin_name().unwrap_or("spandrel");
        let _ = writeln!(text, "\n## {name}\n");
        if let Some(about) = command.get_about() {
            let _ = writeln!(text, "{about}.\n");
        }
        let usage = command.clone().render_usage().to_string();
        let _ = writeln!(text, "```\n{}\n```", usage.trim_start_matches("Usage: ").trim());
        let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
        if !aliases.is_empty() {
            let _ = writeln!(text, "\nAlso called {}.", aliases.join(", "));
        }
        // The flag for the socket and for help is everywhere.
        let of_its_own = |arg: &&Arg| {
            let everywhere =
                matches!(arg.get_id().as_str(), "help" | "version") || (arg.is_global_set() && name != "spandrel");
            !arg.is_hide_set() && !everywhere
        };
        let rows: Vec<_> = command.get_arguments().filter(of_its_own).map(row).collect();
        if !rows.is_empty() {
            let _ = writeln!(text, "\n| | |\n|---|---|\n{}", rows.join("\n"));
        }
        if let Some(more) = command.get_after_long_help() {
            let more = more.to_string();
            let (prose, examples) = more.split_once("Examples:\n").unwrap_or((&more, ""));
            if !prose.trim().is_empty() {
                let _ = writeln!(text, "\n{}", prose.trim());
            }
            if !examples.is_empty() {
                let lines: Vec<_> = examples.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
                let _ = writeln!(text, "\n```\n{}\n```", lines.join("\n"));
            }
        }
        command.get_subcommands().filter(|command| !command.is_hide_set()).for_each(|command| write(text, command));
    }

    /// A line of a command's table: the flag with what it takes, and what it is for.
    fn row(arg: &Arg) -> String {
        let value =
            arg.get_value_names().unwrap_or_default().iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ");
        let mut flag = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, Some(long)) => format!("--{long}"),
            (None, None) => String::new(),
        };
        if arg.get_action().takes_values() {
            flag = format!("{flag} {value}").trim().to_owned();
        }
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let known: Vec<_> = arg
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if arg.get_action().takes_values() && !known.is_empty() && !known.contains(&"`true`".into()) {
            help += &format!(": {}", known.join(", "));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !arg.is_hide_default_value_set() && arg.get_action().takes_values() {
            help += &format!(" [default: {}]", defaults.join(", "));
        }
        if matches!(arg.get_action(), ArgAction::Append) && !arg.is_positional() && !help.contains("several times") {
            help += "; may be given several times";
        }
        let aliases: Vec<_> = arg.get_visible_aliases().unwrap_or_default();
        if !aliases.is_empty() {
            help += &format!(" (also `--{}`)", aliases.join("`, `--"));
        }
        format!("| `{}` | {} |", flag.replace('|', "\\|"), help.replace('|', "\\|"))
    }

    /// The page is what the grammar says.
    #[test]
    fn the_page_of_all_commands_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
        let wanted = document();
        if env::var_os(UPDATE).is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let difference = wanted.lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
        assert!(
            wanted == found,
            "docs/cli.md is not what the command line is now, first at {difference:?}: write it again with \
             `{UPDATE}=1 cargo test --package spandrel --lib cli::generate`"
        );
    }

    #[test]
    fn completions_know_commands_and_flags() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Fish, clap_complete::Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "spandrel", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["network", "disconnect", "gw-priority", "allow-from", "no-trunc"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(!script.contains("SHIM_ARGUMENTS"), "{shell}");
        }
    }

    #[test]
    fn manual_pages_are_one_for_each_command() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("man1");
        manual(&Manual { folder: folder.clone() }).unwrap();
        for page in ["spandrel.1", "spandrel-run.1", "spandrel-network.1", "spandrel-network-create.1"] {
            let text = fs::read_to_string(folder.join(page)).unwrap();
            assert!(text.contains(".SH NAME") && text.contains("Examples:"), "{page}: {text}");
        }
        assert!(!folder.join("spandrel-shim.1").exists());
        let error = manual(&Manual { folder: folder.join("spandrel.1") }).unwrap_err().to_string();
        assert!(error.starts_with("cannot make the folder"), "{error}");
    }
}
