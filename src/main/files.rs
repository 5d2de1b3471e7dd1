//! Files that packages install beside the program, made from the command line as it is: manual
//! pages and completions.

use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;

use super::help;

/// `imgate.1`, and `imgate-COMMAND.1` for each command that `--help` shows.
pub(crate) fn manual(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(help::command(), directory)
}

/// What `shell` reads to complete `imgate`.
pub(crate) fn completions(shell: Shell, to: &mut dyn Write) -> io::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "imgate", &mut text);
    to.write_all(&text)
}
