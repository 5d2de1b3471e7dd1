//! Where a server's time goes, by `perf record -e cpu-clock`: virtual machines have no cycle
//! counters, but each has a clock.
//!
//! Owns: [`Recording`] and the page's section that it becomes.
//! Bounds: one recording of [`SAMPLES_PER_SECOND`] at a time, in a file of the server's own folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Odd, so that it keeps no step with timers.
const SAMPLES_PER_SECOND: u32 = 1999;
/// Symbols with less than this share, in percent, are not listed.
const SHARE_MIN: &str = "0.8";

/// `perf` looks at a process until [`Recording::end`].
pub struct Recording {
    perf: Child,
    file: PathBuf,
}

impl Recording {
    /// Looks at all threads of `pid`; samples go to `folder`.
    ///
    /// # Errors
    /// There is no `perf`.
    pub fn start(pid: u32, folder: &Path) -> Result<Self> {
        let file = folder.join("perf.data");
        let perf = Command::new("perf")
            .args([
                "record",
                "--quiet",
                "-e",
                "cpu-clock",
                "-F",
                &SAMPLES_PER_SECOND.to_string(),
                "-p",
                &pid.to_string(),
            ])
            .arg("-o")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start perf")?;
        Ok(Self { perf, file })
    }

    /// Ends it: the shares of programs and libraries, then of symbols, as a section of Markdown.
    ///
    /// # Errors
    /// `perf` may not look at processes here (`kernel.perf_event_paranoid`), or saw nothing.
    pub fn end(mut self, title: &str) -> Result<String> {
        let pid = Pid::from_raw(self.perf.id() as i32).context("perf has a process id")?;
        // Gone already: its file tells.
        let _ = kill_process(pid, Signal::INT);
        self.perf.wait()?;
        let mut section = format!("## {title}\n\n");
        for sort in ["dso", "symbol"] {
            let rows = self.report(sort)?;
            let _ = writeln!(section, "```\n{rows}```\n");
        }
        Ok(section)
    }

    fn report(&self, sort: &str) -> Result<String> {
        let output = Command::new("perf")
            .args(["report", "--stdio", "--no-children", "--percent-limit", SHARE_MIN, "--sort", sort, "-i"])
            .arg(&self.file)
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "perf report: {}", String::from_utf8_lossy(&output.stderr));
        let rows = rows(&String::from_utf8_lossy(&output.stdout));
        ensure!(!rows.is_empty(), "perf has seen nothing");
        Ok(rows)
    }
}

/// Share and name alone: without the report's comments, blank lines and columns that `cpu-clock`
/// cannot fill.
fn rows(report: &str) -> String {
    let lines = report.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let named = lines.map(|line| line.trim_end_matches(|c: char| c == '-' || c.is_whitespace()));
    named.fold(String::new(), |rows, line| rows + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_its_rows() {
        let report = "# Samples: 3K of event 'cpu-clock'\n#\n    71.20%  [kernel.kallsyms]   \n    20.10%  imgate\n     8.79%  [k] fdget        -      -\n\n\n#\n# (Tip)\n";
        assert_eq!(rows(report), "71.20%  [kernel.kallsyms]\n20.10%  imgate\n8.79%  [k] fdget\n");
        assert!(rows("# nothing\n").is_empty());
    }
}
