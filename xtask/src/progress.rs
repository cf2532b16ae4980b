//! What xtask tells while it works: a line for each step in cargo's own style, and under it, on a terminal, a bar for
//! as long as the step takes. Where stderr is no terminal only the lines are printed.

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line: a verb, right-aligned as cargo aligns it, and what it is done to.
pub(crate) fn say(verb: &str, text: impl Display) {
    if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        eprintln!("\x1b[1;32m{verb:>12}\x1b[0m {text}");
    } else {
        eprintln!("{verb:>12} {text}");
    }
}

/// A bar that counts bytes up to `total`; the caller moves it and clears it.
pub(crate) fn bytes(total: u64) -> ProgressBar {
    bar(total, "{binary_bytes} of {binary_total_bytes}, {eta} left")
}

/// Shows for how long something has been waited that cannot be counted; the caller clears it.
pub(crate) fn waiting() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    // As below.
    if let Ok(style) = ProgressStyle::with_template(&format!("{:>12} {{spinner}} {{elapsed}}", "")) {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

/// A bar that counts `total` things, naming the one at hand.
pub(crate) fn items(total: u64) -> ProgressBar {
    bar(total, "{pos} of {len}: {msg}")
}

fn bar(total: u64, legend: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    // Only a malformed template is refused; the default style shows the same numbers.
    if let Ok(style) = ProgressStyle::with_template(&format!("{:>12} [{{bar:30}}] {legend}", "")) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
