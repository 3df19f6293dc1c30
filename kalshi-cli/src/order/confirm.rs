//! The question before real money moves.

use std::{
    io::{BufRead, IsTerminal as _, Read as _, Write, stderr, stdin},
    thread,
};

use tokio::sync::oneshot;

use crate::failure::{Failure, Outcome};

/// Whether a person has to say yes, and can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    /// There is real money in the environment, or the caller wants to be asked.
    pub(crate) is_needed: bool,
    /// `--yes` was given.
    pub(crate) is_given: bool,
    /// The input and the error output are terminals.
    pub(crate) is_terminal: bool,
}

impl Consent {
    /// Reads from the process whether there is a terminal to ask at.
    pub(crate) fn new(is_needed: bool, is_given: bool) -> Self {
        let is_terminal = stdin().is_terminal() && stderr().is_terminal();
        Self { is_needed, is_given, is_terminal }
    }

    /// Asks at the terminal, if that is needed.
    ///
    /// # Errors
    ///
    /// Usage if nobody can be asked, declined if the line is another one.
    ///
    /// # Cancellation
    ///
    /// Nothing was confirmed. What is typed later is read and dropped.
    pub(crate) async fn ask(
        self,
        line: &str,
        is_yes: impl Fn(&str) -> bool + Send + 'static,
    ) -> Outcome {
        let line = line.to_owned();
        let (answer, answered) = oneshot::channel();
        // Not on a thread of the runtime, which would wait for it at the end: after Ctrl-C, too.
        thread::spawn(move || {
            let (mut input, mut output) = (stdin().lock(), stderr().lock());
            let _ = answer.send(self.ask_with(&line, is_yes, &mut input, &mut output));
        });
        answered.await.unwrap_or_else(|_| Err(Failure::declined()))
    }

    fn ask_with(
        self,
        line: &str,
        is_yes: impl Fn(&str) -> bool,
        input: &mut impl BufRead,
        output: &mut impl Write,
    ) -> Outcome {
        if !self.is_needed || self.is_given {
            return Ok(());
        }
        if !self.is_terminal {
            return Err(Failure::usage("there is no terminal to confirm at; nothing was sent")
                .with_next("--yes, where no person is to be asked"));
        }
        write!(output, "type  {line}  to confirm: ")?;
        output.flush()?;
        let mut typed = String::new();
        // What no person types: the rest of a longer line is not read.
        let read = input.take(256).read_line(&mut typed);
        match read {
            Ok(_) if is_yes(typed.trim()) => Ok(()),
            Ok(_) => Err(Failure::declined()),
            Err(error) => Err(Failure::local(format!("could not read the confirmation: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Category;

    fn ask(consent: Consent, typed: &str) -> Result<String, Category> {
        let mut output = Vec::new();
        consent
            .ask_with("10 @ 0.44", |line| line == "10 @ 0.44", &mut typed.as_bytes(), &mut output)
            .map_err(|failure| failure.category)?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_person_confirms_with_the_line_and_nothing_else() {
        let consent = Consent { is_needed: true, is_given: false, is_terminal: true };
        assert_eq!(ask(consent, "10 @ 0.44\n").unwrap(), "type  10 @ 0.44  to confirm: ");
        for typed in ["", "\n", "y\n", "yes\n", "10 @ 0.4\n"] {
            assert_eq!(ask(consent, typed), Err(Category::Declined), "{typed:?}");
        }
        assert_eq!(ask(consent, &"10 @ 0.44".repeat(100)), Err(Category::Declined));
    }

    #[test]
    fn without_a_terminal_only_the_flag_confirms() {
        let consent = Consent { is_needed: true, is_given: false, is_terminal: false };
        assert_eq!(ask(consent, "10 @ 0.44\n"), Err(Category::Usage));
        assert_eq!(ask(Consent { is_given: true, ..consent }, ""), Ok(String::new()));
        assert_eq!(ask(Consent { is_needed: false, ..consent }, ""), Ok(String::new()));
    }
}
