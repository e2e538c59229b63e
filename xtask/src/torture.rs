//! `cargo xtask torture`: the randomised tests of robustness, for as long as asked.

use std::{
    process::{Command, ExitCode, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// The randomised tests of robustness, for as long as asked, each with fresh seeds
///
/// What they survived is counted in a table (docs/RELIABILITY.md); a failing seed is named.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// In all
    #[arg(long, value_name = "N", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    minutes: u64,
    /// Where the seeds begin [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The tests that count cases: package, test binary, how many series of cases are in it.
const TESTS: [(&str, &str, u64); 16] = [
    ("induction-train", "survival", 6),
    ("induction-train", "hostile", 7),
    ("induction-train", LIBRARY, 1),
    ("induction-gguf", "hostile", 3),
    ("induction-tokenizer", "hostile", 6),
    ("induction-tokenizer", "hostile_pretrained", 2),
    ("induction-tokenizer", "sentencepiece", 4),
    ("induction-tokenizer", LIBRARY, 4),
    ("induction-model", "hostile_arrays", 1),
    ("induction-model", "hostile_pretrained", 15),
    ("induction-report", "hostile", 19),
    ("induction", "hostile", 4),
    ("induction", "power", 2),
    ("induction", "resume", 1),
    ("induction", "slurm", 1),
    ("induction", "sweep", 1),
];

/// The tests beside the code.
const LIBRARY: &str = "--lib";

#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn torture(options: &Options) -> ExitCode {
    let minutes = options.minutes;
    let seed = options.seed.unwrap_or_else(fresh_seed);
    let series: u64 = TESTS.iter().map(|(_, _, series)| series).sum();
    let seconds = (60 * minutes / series).max(1);
    eprintln!("{series} series of cases, {seconds} s each, from seed {seed}");
    let mut lines = Vec::new();
    let mut failed = false;
    for (package, test, _) in TESTS {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let which = if test == LIBRARY { vec![LIBRARY] } else { vec!["--test", test] };
        let output = Command::new(program)
            .args(["test", "--package", package])
            .args(which)
            .args(["--", "--nocapture", "--test-threads=1"])
            .env("INDUCTION_TORTURE_SECONDS", seconds.to_string())
            .env("INDUCTION_TORTURE_SEED", seed.to_string())
            .env("RUST_BACKTRACE", "0")
            .current_dir(crate::root())
            .stderr(Stdio::piped())
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                eprintln!("xtask: cannot run cargo: {error}");
                return ExitCode::from(2);
            }
        };
        let found = String::from_utf8_lossy(&output.stdout);
        // A test's name may stand before its line.
        let found =
            found.lines().filter_map(|line| Some(line[line.find("torture | ")?..].to_string()));
        let before = lines.len();
        lines.extend(found);
        lines[before..].iter().for_each(|line| eprintln!("{line}"));
        if !output.status.success() {
            failed = true;
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    println!("| what | passed | failed | seeds |\n|---|---|---|---|");
    for line in &lines {
        let parts: Vec<&str> = line.split(" | ").collect();
        if let [_, name, passed, failed, seeds] = parts[..] {
            let count = |text: &str| text.split(' ').next().unwrap_or_default().to_string();
            println!(
                "| {name} | {} | {} | {} |",
                count(passed),
                count(failed),
                seeds.trim_start_matches("seeds ")
            );
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Another one each time.
fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Tests that count cases and are the same with every seed.
    const NOT_RANDOM: [&str; 2] = ["determinism", "resources"];

    fn counts_cases(path: &Path) -> bool {
        if path.is_dir() {
            return fs::read_dir(path).unwrap().any(|entry| counts_cases(&entry.unwrap().path()));
        }
        // proptest has cases of its own.
        let text = fs::read_to_string(path).unwrap_or_default().replace("with_cases(", "");
        text.contains("induction_torture") && (text.contains("cases(") || text.contains("attack("))
    }

    #[test]
    fn no_randomised_test_is_forgotten() {
        let mut found = 0;
        for folder in fs::read_dir(crate::root().join("crates")).unwrap() {
            let folder = folder.unwrap().path();
            let name = folder.file_name().unwrap().to_str().unwrap().to_string();
            let package = if name == "induction" { name } else { format!("induction-{name}") };
            for entry in fs::read_dir(folder.join("tests")).into_iter().flatten() {
                let path = entry.unwrap().path();
                let test = path.file_stem().unwrap().to_str().unwrap();
                // A folder of a test's modules is in its main.rs, or beside the file of that name.
                let whole = path.is_file() || path.join("main.rs").exists();
                if whole && counts_cases(&path) && !NOT_RANDOM.contains(&test) {
                    let listed = TESTS.iter().any(|(p, t, _)| (*p, *t) == (package.as_str(), test));
                    assert!(listed, "{package} --test {test} counts cases and is not in TESTS");
                    found += 1;
                }
            }
        }
        assert_eq!(
            found,
            TESTS.iter().filter(|(_, test, _)| *test != LIBRARY).count(),
            "TESTS names what is not there"
        );
    }
}
