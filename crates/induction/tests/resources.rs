//! What the program takes of a machine: memory as predicted and no more with time, no file handles,
//! no network.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{TINY, fixtures, induction, spec, succeed};
use induction_torture::{cases, scratch};

/// A field of /proc/PID/status in bytes; `None` once the process is over.
fn memory(child: &Child, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(
        line.trim_matches([':', ' ', '\t']).strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024,
    )
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs to the end; the largest resident memory seen.
fn peak(command: &mut Command) -> u64 {
    let mut child = start(command);
    let mut largest = 0;
    loop {
        largest = largest.max(memory(&child, "VmHWM").unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}");
            return largest;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn memory_is_as_predicted() {
    // Wide, long, with a large vocabulary, with MLPs and large batches: what dominates differs.
    let shapes = [
        ("wide", 2, 320, 0, 64, 256, 4),
        ("long", 2, 64, 0, 768, 64, 2),
        ("vocabulary", 1, 128, 0, 64, 12_000, 2),
        ("batch", 2, 128, 512, 64, 512, 16),
    ];
    let folder = scratch();
    cases("memory predicted within 20 %", shapes.len() as u64, |seed| {
        let (name, layers, d_model, d_mlp, n_ctx, d_vocab, batch) =
            shapes[seed as usize % shapes.len()];
        let spec = format!(
            "format = 1\nname = \"{name}\"\nseed = 7\n[data]\nsource = \"repeats\"\nmin_period = 3\nmax_period = 8\n[model]\n\
             n_layers = {layers}\nd_model = {d_model}\nn_heads = 4\nd_head = {}\nd_mlp = {d_mlp}\nn_ctx = {n_ctx}\nd_vocab = {d_vocab}\n\
             [train]\ntokens = {}\nbatch = {batch}\nlr = 0.001\n[snapshots]\nevery = 2\n[evaluation]\nexamples = 16\n\
             ablation_examples = 8\nicl_early = 10\nicl_late = 50\nicl_half_width = 2\nhead_examples = 2\nprefix_block = 8",
            d_model / 4,
            2 * batch * n_ctx,
        );
        let plan = folder.path().join(format!("{name}.toml"));
        let spec = spec.replace("\n[", "\n[runs.spec.");
        fs::write(
            &plan,
            format!("format = 1\nname = \"m\"\n[[runs]]\nseries = [\"m\"]\n[runs.spec]\n{spec}\n"),
        )
        .unwrap();
        let reproduce = || {
            let mut command = induction();
            command.args(["--threads", "1", "reproduce", "--jobs", "1", "--manifest"]).arg(&plan);
            command.arg("--out").arg(folder.path().join(name));
            command
        };
        let forecast = succeed(reproduce().args(["--dry-run", "--json"]));
        let forecast: serde_json::Value = serde_json::from_str(&forecast).unwrap();
        let predicted = forecast["memory"].as_f64().unwrap();
        let used = peak(&mut reproduce()) as f64;
        println!(
            "{name}: {:.0} MB predicted, {:.0} MB used, {:.2}",
            predicted / 1e6,
            used / 1e6,
            predicted / used
        );
        assert!(
            (0.8..1.2).contains(&(predicted / used)),
            "{name}: {predicted} predicted, {used} used"
        );
    });
}

#[test]
fn twenty_thousand_steps_take_no_more_than_two_thousand() {
    let folder = scratch();
    let text =
        TINY.replace("tokens = 9600", "tokens = 960000").replace("every = 20", "every = 500");
    let run = folder.path().join("run");
    let mut child =
        start(induction().arg("train").arg(spec(folder.path(), &text)).arg("--out").arg(&run));
    let handles = |child: &Child| {
        fs::read_dir(format!("/proc/{}/fd", child.id())).ok().map(|list| list.count())
    };
    let mut early = None;
    let mut late = (0, 0);
    while child.try_wait().unwrap().is_none() {
        if let (Some(bytes), Some(files)) = (memory(&child, "VmRSS"), handles(&child)) {
            late = (late.0.max(bytes), late.1.max(files));
            if early.is_none() && run.join("snapshots/step-00002000").exists() {
                early = Some(late);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success() && run.join("snapshots/step-00020000").exists());
    let early = early.unwrap();
    println!(
        "20000 steps: {} bytes and {} handles at most, {} and {} in the first 2000",
        late.0, late.1, early.0, early.1
    );
    assert!(late.0 <= early.0 + 2_000_000, "memory grew from {} to {} bytes", early.0, late.0);
    // A snapshot that is being written may be met more often in more steps: a file and its folder.
    assert!(late.1 <= early.1 + 2, "file handles grew from {} to {}", early.1, late.1);
}

/// In a network namespace of its own there is nothing to talk to, not even this machine.
#[test]
fn the_whole_way_without_a_network() {
    let unshare = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]).arg(program);
        command
    };
    if !unshare(Path::new("true")).output().is_ok_and(|output| output.status.success()) {
        println!("skipped: this system gives no network namespace");
        return;
    }
    let folder = scratch();
    let golden = fixtures().join("golden");
    let text = fs::read_to_string(golden.join("spec.toml")).unwrap();
    let text = text.replace("\"text.txt\"", &format!("{:?}", golden.join("text.txt")));
    let plan = folder.path().join("plan.toml");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let runs = lines.join("\n").trim().replace("\n[", "\n[runs.spec.");
    fs::write(
        &plan,
        format!(
            "format = 1\nname = \"offline\"\n[[runs]]\nseries = [\"golden\"]\n[runs.spec]\n{runs}\n"
        ),
    )
    .unwrap();
    let out = folder.path().join("out");
    let mut command = unshare(Path::new(env!("CARGO_BIN_EXE_induction")));
    command.args(["--quiet", "reproduce", "--manifest"]).arg(&plan).arg("--out").arg(&out);
    succeed(&mut command);
    assert!(out.join("report.html").exists());
    println!("trained, measured, reported in an empty network namespace");
}
