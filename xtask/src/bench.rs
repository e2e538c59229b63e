//! `cargo xtask bench`: our engine's timings, and beside them PyTorch's, run in turn.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio, exit},
};

use crate::{cargo, devices, root};

/// What is timed: a name, the work and its sizes.
const CASES: [(&str, &str, &str); 5] = [
    ("A", "train", "--vocab 512 --d-model 128 --heads 4 --layers 2 --ctx 512 --batch 4"),
    ("A'", "train", "--vocab 512 --d-model 128 --heads 4 --layers 2 --ctx 128 --batch 16"),
    ("B", "train", "--vocab 1024 --d-model 256 --heads 8 --layers 2 --ctx 256 --batch 16"),
    ("C", "train", "--vocab 512 --d-model 128 --heads 4 --layers 6 --ctx 512 --batch 4 --mlp"),
    (
        "E",
        "evaluate",
        "--vocab 512 --d-model 128 --heads 4 --layers 2 --ctx 512 --batch 256 --steps 5",
    ),
];

/// Time training and evaluation
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Numbers of threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_values = ["1", "2"])]
    threads: Vec<String>,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    #[arg(long, default_value = "cpu")]
    device: String,
    /// PyTorch in turn with it, and the ratio of each round
    #[arg(long)]
    peer: bool,
    /// The Python that has torch
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: String,
    /// torch.compile in place of eager PyTorch
    #[arg(long)]
    compile: bool,
    /// The parts of a step instead
    #[arg(long)]
    criterion: bool,
    /// A pretrained model's losses and head table instead, beside transformers and TransformerLens
    #[arg(long, value_name = "MODEL.gguf")]
    scan: Option<String>,
}

/// `cargo xtask bench`.
pub(crate) fn bench(options: &Options) -> ExitCode {
    if options.criterion {
        cargo(&["bench", "--package", "induction-kernels", "--package", "induction-engine"]);
        return ExitCode::SUCCESS;
    }
    // With burn, whose matrix product is the ceiling.
    let with = if options.device == "cpu" { "flex" } else { options.device.as_str() };
    let binary = devices::binary(&["--device".to_string(), with.to_string()]);
    if options.peer && !succeeds(Command::new(&options.python).args(["-c", "import torch"])) {
        eprintln!(
            "xtask bench: {} has no torch: pip install torch, or name another with --python",
            options.python
        );
        return ExitCode::from(2);
    }
    if let Some(model) = &options.scan {
        println!(
            "| work | threads | tokens/s | peer | peer's tokens/s | ratio: median (each round) |"
        );
        println!("|---|---|---|---|---|---|");
        options.threads.iter().for_each(|threads| scan(options, &binary, threads, model));
        return ExitCode::SUCCESS;
    }
    println!(
        "| case | threads | tokens/s | GFLOP/s | share of sgemm | PyTorch tokens/s | ratio: median (each round) |"
    );
    println!("|---|---|---|---|---|---|---|");
    for threads in &options.threads {
        for case in CASES {
            row(options, &binary, threads, case);
        }
    }
    ExitCode::SUCCESS
}

/// Times one case, round by round, and prints its line.
fn row(options: &Options, binary: &Path, threads: &str, (name, work, sizes): (&str, &str, &str)) {
    let sizes: Vec<&str> = sizes.split(' ').collect();
    let (mut ours, mut peers, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let mut command = Command::new(binary);
        command
            .args(["--threads", threads, "bench", work, "--device", &options.device])
            .args(&sizes);
        let line = output(&mut command);
        let tokens = field(&line, "tokens_per_s");
        ours.push([tokens, field(&line, "gflops"), field(&line, "share_of_sgemm")]);
        if options.peer {
            let mut command = Command::new(&options.python);
            command
                .arg(root().join("fixtures/bench/pytorch.py"))
                .arg(work)
                .args(&sizes)
                .args(["--threads", threads]);
            command.args(options.compile.then_some("--compile"));
            let peer = field(&output(&mut command), "tokens_per_s");
            peers.push(peer);
            ratios.push(tokens / peer);
        }
    }
    let [tokens, gflops, share] =
        [0, 1, 2].map(|i| median(ours.iter().map(|values| values[i]).collect()));
    let (peer, ratio) = if ratios.is_empty() {
        (String::new(), String::new())
    } else {
        let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        (format!("{:.0}", median(peers)), format!("{:.2} ({})", median(ratios), each.join(" ")))
    };
    println!(
        "| {name} | {threads} | {tokens:.0} | {gflops:.0} | {:.0} % | {peer} | {ratio} |",
        100.0 * share
    );
}

/// Times a pretrained model, round by round, and prints a line for each kind of work and peer, and
/// one for loading.
fn scan(options: &Options, binary: &Path, threads: &str, model: &str) {
    const WORKS: [(&str, &[&str]); 2] = [
        ("losses", &["transformers_eager", "transformers_sdpa", "lens"]),
        ("heads", &["transformers_heads", "lens_heads"]),
    ];
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let mut command = Command::new(binary);
        command.args(["--threads", threads, "bench", "scan", model, "--device", &options.device]);
        ours.push(output(&mut command));
        if options.peer {
            let mut command = Command::new(&options.python);
            command.arg(root().join("fixtures/bench/scan_peer.py")).args([
                model,
                "--threads",
                threads,
            ]);
            peers.push(output(&mut command));
        }
    }
    let of = |lines: &[String], name: &str| -> Vec<f64> {
        lines.iter().map(|line| field(line, name)).collect()
    };
    for (work, names) in WORKS {
        let mine = of(&ours, work);
        let tokens = median(mine.clone());
        if peers.is_empty() {
            println!("| {work} | {threads} | {tokens:.0} | | | |");
        }
        for name in names.iter().filter(|_| options.peer) {
            let peer = of(&peers, name);
            let ratios: Vec<f64> = mine.iter().zip(&peer).map(|(ours, peer)| ours / peer).collect();
            let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            let (peer, ratio) = (median(peer), median(ratios));
            println!(
                "| {work} | {threads} | {tokens:.0} | {name} | {peer:.0} | {ratio:.2} ({}) |",
                each.join(" ")
            );
        }
    }
    println!("| loading, s | {threads} | {:.2} | | | |", median(of(&ours, "load_s")));
}

fn succeeds(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The command's standard output; ends the process if it fails.
fn output(command: &mut Command) -> String {
    match command.stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => exit(output.status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", command.get_program().display());
            exit(2);
        }
    }
}

/// A number of a JSON line, or of its rates.
fn number(line: &str, name: &str) -> Option<f64> {
    let values: serde_json::Value = serde_json::from_str(line).ok()?;
    values[name].as_f64().or_else(|| values["tokens_per_s"][name].as_f64())
}

/// [`number`], without which the process ends.
fn field(line: &str, name: &str) -> f64 {
    number(line, name).unwrap_or_else(|| {
        eprintln!("xtask: no {name} in {line}");
        exit(1);
    })
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let [low, high] = [(values.len() - 1) / 2, values.len() / 2].map(|at| values[at]);
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_in_a_line_or_among_its_rates() {
        let scan = r#"{"tokens":1010,"load_s":0.19,"tokens_per_s":{"losses":661.2,"heads":831.1}}"#;
        let found = ["tokens", "load_s", "losses", "heads"].map(|name| number(scan, name));
        assert_eq!(found, [Some(1010.0), Some(0.19), Some(661.2), Some(831.1)]);
        assert_eq!(number(r#"{"tokens_per_s":5.5}"#, "tokens_per_s"), Some(5.5));
        assert_eq!(number(scan, "gflops"), None);
    }
}
