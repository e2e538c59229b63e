//! docs/results/gpu.md and its rows in docs/BENCHMARKS.md, from the records of one or more calls on
//! one machine.

use std::fmt::Write as _;

use serde_json::Value;

use crate::bench::median;

pub(super) const BEGIN: &str = "<!-- cargo xtask gpu --read: begin -->";
pub(super) const END: &str = "<!-- cargo xtask gpu --read: end -->";

/// The whole page.
pub(super) fn page(calls: &[Value]) -> String {
    let mut text = String::from(
        "# On an NVIDIA GPU\n\nMade by `cargo xtask gpu --read` from what `fixtures/gpu.sh` wrote there \
         ([DEVICES.md](../DEVICES.md#a-gpu-for-minutes)).\n\n",
    );
    for call in calls {
        let _ = writeln!(text, "- {}", origin(call));
    }
    let all: Vec<&Value> = calls.iter().flat_map(steps).collect();
    let count = |keep: fn(&Value) -> bool| all.iter().filter(|step| keep(step)).count();
    let _ = writeln!(
        text,
        "\n{} steps passed, {} failed or were killed, {} were skipped.",
        count(|step| step["ok"] == true),
        count(|step| step["ok"] != true && !step["skipped"].is_string()),
        count(|step| step["skipped"].is_string())
    );
    text += "\n## What was run\n\n| step | ended | s |\n|---|---|---|\n";
    for step in calls.iter().flat_map(steps) {
        let _ = writeln!(text, "| {} | {} | {} |", word(&step["name"]), end(step), step["seconds"]);
    }
    text += "\n## Conformance\n\nThe largest differences from PyTorch in float64 on seven small models, and of the loss in 50 steps \
             from the CPU engine's ([BENCHMARKS.md](../BENCHMARKS.md#devices)).\n\n| what | engine | largest |\n|---|---|---|\n";
    let mut seen = Vec::new();
    for row in found(calls, "conformance ").filter_map(Value::as_array).flatten() {
        let line = format!(
            "| {} | {} | {} |",
            word(&row["what"]),
            word(&row["engine"]),
            word(&row["largest"])
        );
        // Both programs have the CPU's engines.
        if !seen.contains(&line) {
            text += &format!("{line}\n");
            seen.push(line);
        }
    }
    text += "\n## Claims at the scale `smoke`, beside the CPU's\n\n| back end | claims | other verdicts |\n|---|---|---|\n";
    for step in
        calls.iter().flat_map(steps).filter(|step| word(&step["name"]).starts_with("smoke "))
    {
        let other =
            step["found"]["other_than_cpu"].as_object().filter(|_| step["ok"] == true).map_or_else(
                || end(step),
                |other| {
                    let each: Vec<String> = other
                        .iter()
                        .map(|(claim, verdicts)| {
                            let claim = word(&Value::from(claim.as_str()));
                            format!(
                                "{claim}: {} (on the CPU: {})",
                                word(&verdicts[1]),
                                word(&verdicts[0])
                            )
                        })
                        .collect();
                    if each.is_empty() { "none".to_string() } else { each.join("; ") }
                },
            );
        let _ = writeln!(
            text,
            "| {} | {} | {other} |",
            word(&step["name"]),
            number(&step["found"]["claims"], 0)
        );
    }
    text += &models_read(calls);
    let _ = write!(text, "\n## Training steps\n\n{}", benchmarks(calls));
    text
}

/// Models that are there and are not trained: how near they come to the CPU's engine, and how fast
/// they are.
fn models_read(calls: &[Value]) -> String {
    let mut text = String::from(
        "\n## Models that are read\n\nOf random weights. A small one in Q4_0: the largest differences from the CPU's engine, of the loss of a \
         token and of a head's score. One of 8B parameters in Q4_0: seconds to load it, for the table of its heads, and for \
         the losses, of ten sequences of 101 tokens.\n\n\
         | what | engine | products | losses | scores | load | heads | losses, s |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (what, name) in [("small", "scan small, "), ("8B", "scan 8B, ")] {
        for row in found(calls, name).filter(|row| row.is_object()) {
            let size = |key: &str| {
                row[key].as_f64().map_or_else(String::new, |difference| format!("{difference:.1e}"))
            };
            let s = |key: &str| {
                row[key].as_f64().map_or_else(String::new, |seconds| format!("{seconds:.2}"))
            };
            let (engine, products) = (word(&row["engine"]), word(&row["products"]));
            let _ = writeln!(
                text,
                "| {what} | {engine} | {products} | {} | {} | {} | {} | {} |",
                size("losses"),
                size("scores"),
                s("load_s"),
                s("heads_s"),
                s("losses_s")
            );
        }
    }
    text
}

/// The table of training steps, with the machine that it is of.
pub(super) fn benchmarks(calls: &[Value]) -> String {
    let mut text = String::new();
    let Some(first) = calls.first() else { return text };
    calls.iter().for_each(|call| text += &format!("{}.\n", origin(call)));
    text += "d_model 768, 12 heads, attention only, vocabulary 4096; 64 sequences of 512 tokens or 4 of 8192 a step; medians of 10 steps \
             after 5. Ratios are to PyTorch with the same products in the same case. An empty cell: not measured.\n";
    let peak = first["machine"]["peak_tflops"].as_f64();
    let measured: Vec<&Value> = found(calls, "peak").collect();
    let rate = |format: &str| {
        let rates: Vec<f64> = measured.iter().filter_map(|found| found[format].as_f64()).collect();
        (!rates.is_empty()).then(|| median(rates))
    };
    let said = |name: &str, rate: Option<f64>| {
        rate.map_or_else(|| format!("{name} not measured"), |rate| format!("{name} {rate:.0}"))
    };
    let _ = writeln!(
        text,
        "TFLOP/s of a product of two square matrices by PyTorch there: {}, {}, {}; by the data sheet in bfloat16 {}. Shares below \
         are of the product measured there in the same format, and of the data sheet's.\n",
        said("bfloat16", rate("bf16")),
        said("TF32", rate("tf32")),
        said("float32", rate("float32")),
        peak.map_or_else(|| "unknown".to_string(), |peak| format!("{peak:.0}"))
    );
    text += "| case | device | products | tokens/s: median (each round) | TFLOP/s | share of the measured product | of the data sheet \
             | x PyTorch eager | x torch.compile |\n|---|---|---|---|---|---|---|---|---|\n";
    let lines = Line::of(calls);
    for line in &lines {
        let beside = |engine: &str| {
            let like = |other: &&Line| other.case == line.case && other.products == line.products;
            let peer = lines.iter().filter(like).find(|other| other.engine == engine);
            peer.map_or_else(String::new, |peer| {
                format!("{:.2}", line.tokens_per_s() / peer.tokens_per_s())
            })
        };
        let tflops = line.tokens_per_s() * line.flop / 1e12;
        let format = match line.products.as_str() {
            "bfloat16" => "bf16",
            "TF32" => "tf32",
            _ => "float32",
        };
        let share = |rate: Option<f64>| {
            rate.map_or_else(String::new, |rate| format!("{:.0} %", 100.0 * tflops / rate))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {tflops:.0} | {} | {} | {} | {} |",
            line.case,
            line.engine,
            line.products,
            line.rounds(),
            share(rate(format)),
            share(peak.filter(|_| format == "bf16")),
            beside("PyTorch eager"),
            beside("torch.compile")
        );
    }
    if lines.is_empty() {
        text += "\nNone came to its end.\n";
    }
    text
}

/// `text` with what stands between the marks replaced; none if they are not there once each.
pub(super) fn between_marks(text: &str, rows: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let once = !after.contains(BEGIN) && !after.contains(END) && !before.contains(END);
    once.then(|| format!("{before}{BEGIN}\n{}\n{END}{after}", rows.trim_end()))
}

/// One engine on one case: all its rounds.
struct Line {
    case: String,
    engine: String,
    products: String,
    /// Operations a token.
    flop: f64,
    each: Vec<f64>,
}

impl Line {
    fn of(calls: &[Value]) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::new();
        for row in found(calls, "bench ") {
            let (Some(tokens_per_s), Some(flop)) =
                (row["tokens_per_s"].as_f64(), row["flop_per_token"].as_f64())
            else {
                continue;
            };
            let (case, engine) = (word(&row["case"]), word(&row["engine"]));
            let products = word(&row["products"]);
            let same = |line: &&mut Self| {
                line.case == case && line.engine == engine && line.products == products
            };
            let line = lines.iter_mut().find(same);
            if let Some(line) = line {
                line.each.push(tokens_per_s);
                continue;
            }
            lines.push(Self { case, engine, products, flop, each: vec![tokens_per_s] });
        }
        lines
    }

    fn tokens_per_s(&self) -> f64 {
        median(self.each.clone())
    }

    fn rounds(&self) -> String {
        let each: Vec<String> = self.each.iter().map(|rate| thousands(*rate)).collect();
        let median = thousands(self.tokens_per_s());
        if each.len() == 1 { median } else { format!("{median} ({})", each.join(" ")) }
    }
}

fn steps(call: &Value) -> impl Iterator<Item = &Value> {
    call["steps"].as_array().into_iter().flatten()
}

/// What was found by the steps of all calls whose name begins so, in their order. Timings of steps
/// that failed do not count.
fn found<'a>(calls: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    let of = move |step: &&Value| {
        step["name"].as_str().is_some_and(|found| found.starts_with(name))
            && (step["ok"] == true || name.starts_with("conformance"))
    };
    calls
        .iter()
        .flat_map(steps)
        .filter(of)
        .map(|step| &step["found"])
        .collect::<Vec<_>>()
        .into_iter()
}

/// Where a call ran, what of, and when.
fn origin(call: &Value) -> String {
    let (machine, pack) = (&call["machine"], &call["pack"]);
    let commit: String = word(&pack["commit"]).chars().take(12).collect();
    let changed = if pack["changed"] == true { " with changes that are not in it" } else { "" };
    let whole = match (call["complete"] == true, call["stopped"].as_str()) {
        (true, _) => String::new(),
        (false, Some(_)) => format!("; it was stopped: {}", word(&call["stopped"])),
        (false, None) => "; it was cut off".to_string(),
    };
    format!(
        "Call {} of {} on one {} ({} MiB, {} MiB free), driver {}, torch {}; commit {commit}{changed}; took {} s{whole}",
        call["call"],
        word(&call["begun"]),
        word(&machine["gpu"]),
        number(&machine["memory_mib"], 0),
        number(&machine["free_mib"], 0),
        word(&machine["driver"]),
        word(&machine["torch"]),
        number(&call["seconds"], 0),
    )
}

fn end(step: &Value) -> String {
    if step["skipped"].is_string() {
        return format!("skipped: {}", word(&step["skipped"]));
    }
    match (step["ok"] == true, step["rc"].as_i64(), step["unread"].is_string()) {
        (true, ..) => "passed".to_string(),
        (false, None, _) => format!("**killed** at its limit of {} s", number(&step["limit"], 0)),
        (false, Some(0), true) => format!("**failed**: {}", word(&step["unread"])),
        (false, Some(code), _) => {
            format!("**failed** (exit {code}): {}", reason(&step["tail"]))
        }
    }
}

/// What a program that failed said last: the message of each panic, else the last line that is not
/// empty.
fn reason(tail: &Value) -> String {
    let lines: Vec<&str> =
        tail.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let panics =
        lines.windows(2).filter(|pair| pair[0].contains(" panicked at ")).map(|pair| pair[1]);
    let mut said: Vec<&str> = panics.collect();
    if said.is_empty() {
        said.extend(lines.iter().rev().find(|line| !line.trim().is_empty()));
    }
    word(&said.join("; ").into())
}

/// A string as one cell of a table, with nothing in it that Markdown takes for more than text.
fn word(value: &Value) -> String {
    let mut text = String::new();
    for c in value.as_str().unwrap_or("?").chars().take(300) {
        match c {
            '|' => text += "\\|",
            '<' => text += "&lt;",
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

/// 1,234,567
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "?".to_string(), |x| format!("{x:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(engine: &str, products: &str, tokens_per_s: f64) -> Value {
        serde_json::json!({
            "name": format!("bench wide: {engine}"), "ok": true, "rc": 0, "seconds": 9.0,
            "found": {"case": "wide", "engine": engine, "products": products,
                "tokens_per_s": tokens_per_s, "flop_per_token": 5e7},
        })
    }

    fn example() -> Vec<Value> {
        let steps = vec![
            serde_json::json!({"name": "conformance cuda", "ok": false, "rc": null, "seconds": 120.0, "limit": 120, "tail": []}),
            serde_json::json!({"name": "conformance libtorch", "ok": true, "rc": 0, "seconds": 20.0,
                "found": [{"what": "gradients", "engine": "libtorch:cuda:0", "largest": "7.0e-6"}]}),
            serde_json::json!({"name": "peak", "ok": true, "rc": 0, "seconds": 8.0,
                "found": {"bf16": 800.0, "tf32": 400.0, "float32": 50.0}}),
            bench("PyTorch eager", "bfloat16", 2e6),
            bench("cuda", "bfloat16", 1e6),
            bench("cuda", "bfloat16", 3e6),
            bench("cuda", "TF32", 1e6),
            bench("PyTorch eager", "float32", 5e5),
            bench("PyTorch eager", "TF32", 8e5),
            serde_json::json!({"name": "scan small, bfloat16: libtorch:cuda:0", "ok": true, "rc": 0, "seconds": 2.0,
                "found": {"engine": "libtorch:cuda:0", "products": "bfloat16", "losses": 0.0123, "scores": 0.004}}),
            serde_json::json!({"name": "scan 8B, bfloat16: libtorch:cuda:0", "ok": true, "rc": 0, "seconds": 20.0,
                "found": {"engine": "libtorch:cuda:0", "products": "bfloat16", "load_s": 9.5, "heads_s": 0.75, "losses_s": 0.5}}),
            serde_json::json!({"name": "smoke cuda", "ok": true, "rc": 0, "seconds": 50.0,
                "found": {"claims": 29, "other_than_cpu": {"Q4": ["reproduced", "partly"]}}}),
            serde_json::json!({"name": "smoke libtorch", "skipped": "no time is left", "seconds": 0.0}),
        ];
        vec![serde_json::json!({
            "format": 1, "call": 1, "complete": true, "seconds": 500.0, "steps": steps,
            "machine": {"gpu": "NVIDIA H100", "driver": "580.1", "torch": "2.11.0", "memory_mib": 81559, "free_mib": 81000,
                "peak_tflops": 989},
            "pack": {"commit": "0123456789abcdef", "changed": false, "made": "2026-11-26"},
        })]
    }

    #[test]
    fn the_page_says_what_came_out_and_what_did_not() {
        let text = page(&example());
        for line in [
            "11 steps passed, 1 failed or were killed, 1 were skipped.",
            "| conformance cuda | **killed** at its limit of 120 s | 120.0 |",
            "| gradients | libtorch:cuda:0 | 7.0e-6 |",
            "| smoke cuda | 29 | Q4: partly (on the CPU: reproduced) |",
            "| small | libtorch:cuda:0 | bfloat16 | 1.2e-2 | 4.0e-3 |  |  |  |",
            "| 8B | libtorch:cuda:0 | bfloat16 |  |  | 9.50 | 0.75 | 0.50 |",
            "| smoke libtorch | ? | skipped: no time is left |",
            // 2M tokens/s of 50 MFLOP, in TFLOP/s: an eighth of what the product gave, a tenth of
            // the data sheet's.
            "| wide | cuda | bfloat16 | 2,000,000 (1,000,000 3,000,000) | 100 | 12 % | 10 % | 1.00 |  |",
            "| wide | cuda | TF32 | 1,000,000 | 50 | 12 % |  | 1.25 |  |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    /// What a program prints there is text here.
    #[test]
    fn hostile_words_stay_in_their_cells() {
        let mut calls = example();
        calls[0]["machine"]["gpu"] = format!("H100\n{END}").into();
        calls[0]["steps"][0] = serde_json::json!({"name": "a|b\n# c", "ok": false, "rc": 0, "unread": "<img src=x>|", "seconds": 1});
        let text = page(&calls);
        assert!(text.contains("| a\\|b # c | **failed**: &lt;img src=x>\\| | 1 |"), "{text}");
        assert!(
            between_marks(&format!("{BEGIN}{END}"), &benchmarks(&calls))
                .is_some_and(|text| text.matches(END).count() == 1)
        );
    }

    #[test]
    fn the_benchmarks_have_a_place_for_them() {
        let benchmarks = std::fs::read_to_string(crate::root().join("docs/BENCHMARKS.md")).unwrap();
        assert!(between_marks(&benchmarks, "rows").is_some());
    }

    #[test]
    fn rows_come_between_the_marks() {
        let old = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(between_marks(&old, "new\n"), Some(format!("a\n{BEGIN}\nnew\n{END}\nb\n")));
        for wrong in ["", BEGIN, &format!("{END}{BEGIN}"), &format!("{BEGIN}{END}{BEGIN}")] {
            assert_eq!(between_marks(wrong, "new"), None, "{wrong}");
        }
    }
}
