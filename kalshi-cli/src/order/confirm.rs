//! The question before real money moves.

use std::io::{IsTerminal as _, stderr, stdin};

use crate::{
    failure::{Failure, Outcome},
    prompt,
};

/// The need of a person's consent, and the means to ask for it.
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
    /// Usage without a terminal, declined if another line is typed.
    ///
    /// # Cancellation
    ///
    /// Nothing was confirmed. A line that is typed later is read and dropped.
    pub(crate) async fn ask(self, line: &str, is_yes: impl Fn(&str) -> bool) -> Outcome {
        if !self.has_to_ask()? || is_yes(&prompt::line(question(line)).await?) {
            return Ok(());
        }
        Err(Failure::declined())
    }

    /// Reports whether a person has to be asked.
    fn has_to_ask(self) -> Outcome<bool> {
        if !self.is_needed || self.is_given {
            return Ok(false);
        }
        if !self.is_terminal {
            return Err(Failure::usage("there is no terminal to confirm at; nothing was sent")
                .with_next("--yes, where no person is to be asked"));
        }
        Ok(true)
    }
}

fn question(line: &str) -> String {
    format!("type  {line}  to confirm: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Category;

    fn ask(consent: Consent, typed: &str) -> Result<String, Category> {
        let mut output = Vec::new();
        if consent.has_to_ask().map_err(|failure| failure.category)? {
            let question = question("10 @ 0.44");
            let line = prompt::line_with(&question, &mut typed.as_bytes(), &mut output);
            if line.map_err(|failure| failure.category)? != "10 @ 0.44" {
                return Err(Category::Declined);
            }
        }
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
