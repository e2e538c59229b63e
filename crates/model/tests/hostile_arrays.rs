//! Safetensors files as accidents and attackers leave them.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use induction_model::{read_safetensors, write_safetensors};
use induction_torture::{attack, digits_changed, mutated};
use ndarray::{ArrayD, IxDyn};

/// Most of a real file is values; here half of it is the header, where damage shows.
fn original() -> Vec<u8> {
    let shapes: [&[usize]; 5] = [&[3, 4], &[5], &[], &[0, 7], &[2, 2, 2]];
    let arrays = shapes.map(|shape| ArrayD::from_elem(IxDyn(shape), 0.5f32));
    write_safetensors(
        arrays.iter().enumerate().map(|(k, array)| (format!("blocks.{k}.attn.W_Q"), array)),
    )
}

#[test]
fn arrays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let original = original();
    let damaged = |seed: u64| {
        if seed.is_multiple_of(2) {
            mutated(&original, seed)
        } else {
            digits_changed(&original, seed)
        }
    };
    let read = |path: &Path| {
        let arrays = read_safetensors(path, &fs::read(path).unwrap())?;
        // No value that was not in the file.
        assert!(arrays.values().map(ArrayD::len).sum::<usize>() * 4 < original.len() + 200_000);
        Ok::<_, induction_model::Error>(())
    };
    attack("safetensors", &path, damaged, read).between(0.4, 0.99);
}
