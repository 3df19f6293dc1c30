//! The question to a person, and the line that is typed.

#[cfg(feature = "mcp")]
use std::{
    fs::File,
    io::{self, BufReader},
};
use std::{
    io::{BufRead, Read as _, Write, stderr, stdin},
    thread,
};

use tokio::sync::oneshot;

use crate::failure::{Failure, Outcome};

/// The most of a line that is read: no person types more, and no path is longer.
const MAX_LINE: u64 = 4_096;

/// Asks on the standard error output, and returns the line that is typed, without blanks around it.
///
/// # Errors
///
/// The input cannot be read.
///
/// # Cancellation
///
/// A line that is typed later is read and dropped.
pub(crate) async fn line(question: String) -> Outcome<String> {
    let (answer, answered) = oneshot::channel();
    // Not on a thread of the runtime, which would wait for it at the end: after Ctrl-C, too.
    thread::spawn(move || {
        let (mut input, mut output) = (stdin().lock(), stderr().lock());
        let _ = answer.send(line_with(&question, &mut input, &mut output));
    });
    answered.await.unwrap_or_else(|_| Err(Failure::declined()))
}

/// Shows a text at the terminal of this process, and returns the line that is typed there, without
/// blanks around it. The standard input is not read: a program can write to that.
///
/// # Errors
///
/// Usage if there is no terminal; or it cannot be read.
///
/// # Cancellation
///
/// A line that is typed later is read and dropped.
#[cfg(feature = "mcp")]
pub(crate) async fn line_at_terminal(text: String) -> Outcome<String> {
    let (input, mut output) = terminal().map_err(|error| {
        Failure::usage(format!(
            "there is no terminal to confirm at: {error}; nothing was confirmed"
        ))
    })?;
    let (answer, answered) = oneshot::channel();
    thread::spawn(move || {
        let _ = answer.send(line_with(&text, &mut BufReader::new(input), &mut output));
    });
    answered.await.unwrap_or_else(|_| Err(Failure::declined()))
}

/// Opens the terminal of this process, to read and to write.
#[cfg(feature = "mcp")]
fn terminal() -> io::Result<(File, File)> {
    let open = |path| File::options().read(true).write(true).open(path);
    if cfg!(windows) {
        return Ok((open("CONIN$")?, open("CONOUT$")?));
    }
    let terminal = open("/dev/tty")?;
    Ok((terminal.try_clone()?, terminal))
}

/// Asks on `output`, and returns the line that is typed into `input`.
pub(crate) fn line_with(
    question: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Outcome<String> {
    output.write_all(question.as_bytes())?;
    output.flush()?;
    let mut typed = String::new();
    input
        .take(MAX_LINE)
        .read_line(&mut typed)
        .map_err(|error| Failure::local(format!("could not read the answer: {error}")))?;
    Ok(typed.trim().to_owned())
}
