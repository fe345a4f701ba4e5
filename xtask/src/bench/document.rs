//! docs/benchmarks.md: the figures between markers, the words around them by hand.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};

use super::peers::first_line;
use crate::workspace::Workspace;

const DOCUMENT: &str = "docs/benchmarks.md";

/// What was measured on, and when.
pub(super) struct Machine {
    date: String,
    cores: usize,
    processor: String,
    kernel: String,
    load: String,
}

impl Machine {
    pub(super) fn now() -> Result<Self> {
        let processors = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            date: first_line(Command::new("date").args(["-u", "+%F"]))?,
            cores: std::thread::available_parallelism()?.get(),
            processor: model.map_or("unknown processor", |(_, model)| model.trim()).to_owned(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cores, processor, kernel, load } = self;
        write!(f, "{date}, {cores} cores ({processor}), Linux {kernel}, load average before: {load}.")
    }
}

/// Replaces the figures of the benchmark `name`.
pub(super) fn write(workspace: &Workspace, name: &str, figures: &str) -> Result<()> {
    let text = workspace.read(DOCUMENT)?;
    let text = with_figures(&text, name, figures).with_context(|| {
        format!("{DOCUMENT} has no place for {name}: the lines {} … {}", begin(name), end(name))
    })?;
    std::fs::write(workspace.root.join(DOCUMENT), text).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn begin(name: &str) -> String {
    format!("<!-- figures of {name} -->")
}

fn end(name: &str) -> String {
    format!("<!-- end of {name} -->")
}

fn with_figures(text: &str, name: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(&begin(name))?;
    let (_, after) = rest.split_once(&end(name))?;
    Some(format!("{before}{}\n{}\n{}{after}", begin(name), figures.trim_end(), end(name)))
}

#[cfg(test)]
mod tests {
    use super::with_figures;

    #[test]
    fn figures_replace_the_old_ones_and_nothing_else() {
        let text =
            "a\n<!-- figures of x -->\nold\n<!-- end of x -->\nb\n<!-- figures of y --><!-- end of y -->\n";
        let new = with_figures(text, "x", "1\n2\n").unwrap();
        assert_eq!(
            new,
            "a\n<!-- figures of x -->\n1\n2\n<!-- end of x -->\nb\n<!-- figures of y --><!-- end of y -->\n"
        );
        assert_eq!(with_figures(text, "z", ""), None);
    }
}
