//! `cargo xtask regress`: whether a change of the code changed what it must not: bits, claims, the
//! report, speed.

mod base;
mod compare;
mod junit;
mod page;

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use serde_json::Value;

use self::{
    base::Base,
    compare::{compare_claims, compare_steps, compare_times, golden_claims},
    junit::{Done, Outcome},
};
use crate::{above_zero, root, target};

/// What could not be run is an error; what ran and went wrong is an outcome.
type Check = fn(&mut Session) -> Result<Outcome, String>;

/// The outer error is that of a [`Check`], the inner one says what there is instead of a `T`.
type Ran<T> = Result<Result<T, String>, String>;

/// The checks, in the order in which they are made.
const CHECKS: [(&str, Check); 5] = [
    ("golden", golden),
    ("claims", claims),
    ("report", report),
    ("step-time", |session| session.times("train", "--batch 4 --steps 20")),
    ("evaluate-time", |session| session.times("evaluate", "--batch 32 --steps 5")),
];

/// The model of case A of `cargo xtask bench`, on which binaries are timed.
const TIMED: &str = "--vocab 512 --d-model 128 --heads 4 --layers 2 --ctx 512";

/// Fifty golden steps, as in crates/induction/tests/determinism.rs.
const STEPS: usize = 50;

/// Whether a change left alone what it must not touch: bits, claims, the report, speed
///
/// Builds the release binary and checks golden (50 steps, to the bit), claims and report (of the
/// smoke scale), step-time and evaluate-time (against another revision, each round both binaries in
/// turn). Exit code 0: no regression; 1: one; 2: wrong usage, or something could not be run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these checks
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = CHECKS.map(|(name, _)| name), conflicts_with = "write")]
    only: Vec<String>,
    /// The revision that speed is compared with [default: where this branch left the remote's main
    /// one]
    #[arg(long, value_name = "REF")]
    base: Option<String>,
    /// What the median ratio of the times may be
    #[arg(long, value_name = "RATIO", default_value = "1.10", value_parser = above_zero)]
    slower: f64,
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
    /// Write the results as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the smoke scale's claims as the expected ones, and check nothing
    #[arg(long)]
    write: bool,
}

/// What the checks share.
struct Session {
    options: Options,
    root: PathBuf,
    /// What is made on the way.
    folder: PathBuf,
    binary: PathBuf,
    /// The smoke scale's results, once there, or how it failed.
    smoke: Option<Result<PathBuf, String>>,
    /// The other revision's binary and commit, once built, or what there is instead.
    base: Option<Ran<(PathBuf, String)>>,
}

pub(crate) fn regress(options: Options) -> ExitCode {
    let root = root();
    if let Some(reference) = options.base.as_deref() {
        // A revision that is not there is wrong usage: better said before a build than after.
        if let Err(message) = base::find(&root, Some(reference)) {
            eprintln!("xtask regress: {message}");
            return ExitCode::from(2);
        }
    }
    let target = env::current_dir().unwrap_or_default().join(target(&root));
    let begun = Instant::now();
    let built = build(&root, &target);
    let outcome = match &built {
        Ok(binary) => {
            Outcome::Passed(binary.strip_prefix(&root).unwrap_or(binary).display().to_string())
        }
        Err(message) => Outcome::Broken(format!("the release binary: {message}")),
    };
    let mut all = vec![Done { name: "build", outcome, seconds: begun.elapsed().as_secs_f64() }];
    if let Ok(binary) = built {
        let mut session = Session {
            options,
            root,
            folder: target.join("regress"),
            binary,
            smoke: None,
            base: None,
        };
        if session.options.write {
            return write(&mut session);
        }
        for (name, check) in CHECKS {
            if session.options.only.is_empty()
                || session.options.only.iter().any(|only| only == name)
            {
                eprintln!("regress: {name}");
                let begun = Instant::now();
                let outcome = check(&mut session).unwrap_or_else(Outcome::Broken);
                all.push(Done { name, outcome, seconds: begun.elapsed().as_secs_f64() });
            }
        }
        return end(&all, session.options.junit.as_deref());
    }
    end(&all, options.junit.as_deref())
}

/// Prints the table, writes the XML.
#[expect(clippy::print_stdout, reason = "the table is the result")]
fn end(all: &[Done], junit: Option<&Path>) -> ExitCode {
    print!("{}", junit::table(all));
    if let Some(path) = junit {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let written = folder
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| junit::xml(all).map_err(io::Error::other))
            .and_then(|xml| fs::write(path, xml));
        if let Err(error) = written {
            eprintln!("xtask regress: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    ExitCode::from(junit::exit_code(all))
}

/// Builds the workspace at `root` with its results in `target`.
fn build(root: &Path, target: &Path) -> Result<PathBuf, String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(["build", "--release", "--package", "induction", "--target-dir"])
        .arg(target)
        .current_dir(root);
    // Standard output is for the table.
    let status = command
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo build in {} ended with {status}", root.display()));
    }
    Ok(target.join("release").join(format!("induction{}", env::consts::EXE_SUFFIX)))
}

/// Runs the binary. Ending otherwise than well is a regression, and so not this function's error.
fn run(command: &mut Command) -> Ran<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let words: Vec<_> =
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Err(format!(
        "induction {} ended with {}\n{}",
        words.join(" "),
        output.status,
        said.trim_end()
    )))
}

impl Session {
    fn induction(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--quiet").current_dir(&self.root);
        command
    }

    /// An empty folder.
    fn fresh(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    /// The folder of the smoke scale, reproduced once; or how that failed.
    fn smoke(&mut self) -> Ran<PathBuf> {
        if self.smoke.is_none() {
            let folder = self.fresh("smoke")?;
            let mut command = self.induction();
            command.args(["reproduce", "--scale", "smoke", "--seeds", "1", "--out"]).arg(&folder);
            self.smoke = Some(run(&mut command)?.map(|_| folder));
        }
        Ok(self.smoke.clone().unwrap_or(Err("it was not run".into())))
    }

    /// The other revision's binary and commit, or why there is none to compare with.
    fn base(&mut self) -> Ran<(PathBuf, String)> {
        if self.base.is_none() {
            let found = match base::find(&self.root, self.options.base.as_deref()) {
                Ok(Base::Commit(commit)) => {
                    match base::build(&self.root, &self.folder.join("base"), &commit) {
                        Ok(binary) => Ok(Ok((binary, commit))),
                        Err(message) => {
                            Err(format!("the base revision {}: {message}", short(&commit)))
                        }
                    }
                }
                Ok(Base::Missing(why)) => Ok(Err(why)),
                Err(message) => Err(message),
            };
            self.base = Some(found);
        }
        self.base.clone().unwrap_or(Err("it was not sought".into()))
    }

    /// Times `work` on both binaries in turn.
    fn times(&mut self, work: &str, amount: &str) -> Result<Outcome, String> {
        let (other, commit) = match self.base()? {
            Ok(found) => found,
            Err(why) => return Ok(Outcome::Skipped(why)),
        };
        let threads = self.options.threads.to_string();
        let time = |binary: &Path| -> Ran<f64> {
            let mut command = Command::new(binary);
            command.args(["--threads", &threads, "bench", work]);
            command.args(TIMED.split(' ')).args(amount.split(' '));
            let line = match run(&mut command)? {
                Ok(line) => line,
                Err(message) => return Ok(Err(message)),
            };
            let speed = json(&line)?["tokens_per_s"].as_f64();
            Ok(Ok(speed
                .filter(|speed| *speed > 0.0)
                .ok_or(format!("no tokens_per_s in {line}"))?))
        };
        let mut rounds = Vec::new();
        for round in 0..self.options.rounds {
            // Whoever comes second finds another machine: warm, or throttled.
            let (ours, theirs) = if round % 2 == 0 {
                let ours = time(&self.binary)?;
                (ours, time(&other)?)
            } else {
                let theirs = time(&other)?;
                (time(&self.binary)?, theirs)
            };
            let theirs = theirs
                .map_err(|message| format!("the base revision {}: {message}", short(&commit)))?;
            match ours {
                Ok(ours) => rounds.push([ours, theirs]),
                Err(message) => return Ok(Outcome::Failed(message)),
            }
        }
        Ok(compare_times(&rounds, short(&commit), self.options.slower))
    }
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// The elements of a list; none of anything else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A file of ours that must be there.
fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn golden(session: &mut Session) -> Result<Outcome, String> {
    let fixtures = session.root.join("fixtures/golden");
    let folder = session.fresh("golden")?;
    let text = fixtures.join("text.txt").display().to_string();
    let spec = read(&fixtures.join("spec.toml"))?.replace("\"text.txt\"", &format!("{text:?}"));
    let path = folder.join("spec.toml");
    fs::write(&path, spec).map_err(|error| format!("{}: {error}", path.display()))?;
    let expected = json(&read(&fixtures.join("expected.json"))?)
        .map_err(|error| format!("expected.json: {error}"))?;
    let out = folder.join("run");
    let mut command = session.induction();
    command.args(["--threads", "2", "train"]).arg(&path).arg("--out").arg(&out);
    if let Err(message) = run(&mut command)? {
        return Ok(Outcome::Failed(message));
    }
    let found = read(&out.join("metrics.jsonl")).and_then(|log| {
        let manifest = read(&out.join(format!("snapshots/step-{STEPS:08}/MANIFEST.json")))?;
        Ok((log, json(&manifest)?))
    });
    // A run that ended well and left no log is the binary's fault.
    Ok(found
        .map_or_else(Outcome::Failed, |(log, manifest)| compare_steps(&expected, &log, &manifest)))
}

fn expected_claims(session: &Session) -> PathBuf {
    session.root.join("fixtures/golden/smoke-claims.json")
}

fn claims(session: &mut Session) -> Result<Outcome, String> {
    let path = expected_claims(session);
    let expected = json(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    let folder = match session.smoke()? {
        Ok(folder) => folder,
        Err(message) => return Ok(Outcome::Failed(message)),
    };
    let found = read(&folder.join("claims.json")).and_then(|text| json(&text));
    Ok(found.map_or_else(Outcome::Failed, |found| compare_claims(&expected, &found)))
}

/// `--write`.
fn write(session: &mut Session) -> ExitCode {
    let written = session.smoke().and_then(|smoke| {
        let claims = json(&read(&smoke?.join("claims.json"))?)?;
        let path = expected_claims(session);
        fs::write(&path, golden_claims(&claims))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    });
    match written {
        Ok(path) => {
            eprintln!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("xtask regress: {message}");
            ExitCode::from(2)
        }
    }
}

fn report(session: &mut Session) -> Result<Outcome, String> {
    let folder = match session.smoke()? {
        Ok(folder) => folder,
        Err(message) => return Ok(Outcome::Failed(message)),
    };
    let faults = page::faults(&folder);
    if !faults.is_empty() {
        return Ok(Outcome::Failed(format!("{} faults\n{}", faults.len(), faults.join("\n"))));
    }
    let first = files(&folder)?;
    if let Err(message) = run(session.induction().arg("report").arg(&folder))? {
        return Ok(Outcome::Failed(message));
    }
    let second = files(&folder)?;
    let differ = |(path, bytes): &(&PathBuf, &Vec<u8>)| second.get(*path) != Some(*bytes);
    let mut changed: Vec<String> =
        first.iter().filter(differ).map(|(path, _)| path.display().to_string()).collect();
    changed.extend(
        second
            .keys()
            .filter(|path| !first.contains_key(*path))
            .map(|path| path.display().to_string()),
    );
    if changed.is_empty() {
        let size = first.get(Path::new("report.html")).map_or(0, Vec::len) as f64 / 1e6;
        return Ok(Outcome::Passed(format!(
            "{size:.1} MB; {} files, built twice, the same bytes",
            first.len()
        )));
    }
    Ok(Outcome::Failed(format!(
        "built again, {} files differ\n{}",
        changed.len(),
        changed.join("\n")
    )))
}

/// All files of a report, but not those of its runs.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(inner) = folders.pop() {
        let mut read = || -> std::io::Result<()> {
            for entry in fs::read_dir(folder.join(&inner))? {
                let entry = entry?;
                let path = inner.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    if path != Path::new("runs") {
                        folders.push(path);
                    }
                } else {
                    files.insert(path, fs::read(entry.path())?);
                }
            }
            Ok(())
        };
        read().map_err(|error| format!("{}: {error}", folder.join(&inner).display()))?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Result<Options, clap::Error> {
        let words = std::iter::once("regress").chain(line.split_whitespace());
        Ok(<Line as clap::Parser>::try_parse_from(words)?.options)
    }

    #[test]
    fn arguments_are_read() {
        let all = options(
            "--only golden,report --base v1 --slower 1.5 --rounds 3 --threads 2 --junit a/b.xml",
        )
        .unwrap();
        assert_eq!(all.only, ["golden", "report"]);
        assert_eq!(
            (all.base.as_deref(), all.slower, all.rounds, all.threads),
            (Some("v1"), 1.5, 3, 2)
        );
        assert_eq!(all.junit.as_deref(), Some(Path::new("a/b.xml")));
        let none = options("").unwrap();
        assert_eq!((none.slower, none.rounds, none.base, none.write), (1.1, 5, None, false));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let wrong = [
            "--only",
            "--only x",
            "--only golden,",
            "--base",
            "--slower 0",
            "--slower x",
            "--slower inf",
        ];
        let more = [
            "--rounds 0",
            "--rounds -1",
            "--threads 1.5",
            "--junit",
            "--what",
            "golden",
            "--write --only golden",
        ];
        for line in wrong.iter().chain(&more) {
            assert!(options(line).is_err(), "{line:?}");
        }
        assert!(
            options("--only speed")
                .unwrap_err()
                .to_string()
                .contains("golden, claims, report, step-time, evaluate-time")
        );
    }

    #[test]
    fn the_expected_claims_are_those_of_a_smoke_scale() {
        let claims =
            json(&read(&root().join("fixtures/golden/smoke-claims.json")).unwrap()).unwrap();
        assert!(list(&claims).len() > 20);
        assert!(matches!(compare_claims(&claims, &claims), Outcome::Passed(_)));
    }
}
