//! The tests that need a real Slurm, on one that is started for them and stopped whatever they end
//! with.

use std::{
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use crate::{CI_FEATURES, root};

/// `cargo xtask ci --slurm`.
pub(crate) fn test() -> ExitCode {
    let script = root().join("fixtures/slurm.sh");
    let started = Command::new(&script).arg("up").stderr(Stdio::inherit()).output();
    let lines = match started {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(_) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", script.display());
            return ExitCode::from(2);
        }
    };
    let variables: Vec<(&str, &str)> =
        lines.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
    let begun = Instant::now();
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tested = Command::new(program)
        // As `ci` tests: with other features most of it would be built anew.
        .args([
            "test",
            "--workspace",
            CI_FEATURES,
            "--test",
            "slurm",
            "--",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs(variables.iter().copied())
        .env("INDUCTION_SLURM", "required")
        .current_dir(root())
        .status();
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    let folder = variables
        .iter()
        .find(|(name, _)| *name == "SLURM_TEST_FOLDER")
        .map_or("", |(_, folder)| folder);
    let stopped = Command::new(&script).args(["down", folder]).status();
    let well = [tested, stopped]
        .iter()
        .all(|end| end.as_ref().is_ok_and(std::process::ExitStatus::success));
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
