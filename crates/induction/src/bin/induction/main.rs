//! The `induction` program: arguments in, the facade's functions, results and exit codes out.

mod arguments;
mod commands;
mod help;
mod output;

use std::process::ExitCode;

use induction::{
    Error,
    terminal::{inert, message},
};

fn main() -> ExitCode {
    let arguments = match help::parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    outcome(|| commands::run(&arguments))
}

/// Does the work; its exit code, which for a panic is that of a bug.
fn outcome(work: impl FnOnce() -> Result<(), Error>) -> ExitCode {
    // Nothing is used again after a panic.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("induction: {}", message(&error.to_string()));
            error.exit_code()
        }
        Err(_) => {
            eprintln!(
                "induction: this is a bug in induction {}: please report the lines above; what was done before is kept",
                env!("CARGO_PKG_VERSION")
            );
            ExitCode::from(1)
        }
    }
}

/// What is wrong with the arguments: in colours, unless one of them would add its own.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if inert(&text) == text {
        error.exit();
    }
    eprint!("{}", inert(&text));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug_and_ends_with_1() {
        assert_eq!(outcome(|| Ok(())), ExitCode::SUCCESS);
        assert_eq!(outcome(|| Err(Error::Input("x".into()))), ExitCode::from(2));
        assert_eq!(outcome(|| panic!("as if by a bug")), ExitCode::from(1));
    }
}
