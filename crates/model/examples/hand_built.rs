//! An induction circuit with every weight set by formula, and what it predicts:
//! `cargo run -p induction-model --example hand_built`
//!
//! ```text
//! 2 layers of 1 head, d_model 94, d_head 26, d_vocab 26: 24442 weights
//!
//! parameter                         shape  not zero
//! embed.W_E                      [26, 94]        26
//! blocks.0.attn.W_Q           [1, 94, 26]        32
//! blocks.0.attn.W_K           [1, 94, 26]        16
//! blocks.0.attn.W_V           [1, 94, 26]        26
//! blocks.0.attn.W_O           [1, 26, 94]        26
//! blocks.0.attn.pos_gain              [1]         1
//! blocks.1.attn.W_Q           [1, 94, 26]        26
//! blocks.1.attn.W_K           [1, 94, 26]        26
//! blocks.1.attn.W_V           [1, 94, 26]        26
//! blocks.1.attn.W_O           [1, 26, 94]        26
//! blocks.1.attn.pos_gain              [1]         0
//! unembed.W_U                    [94, 26]        26
//!
//! hook points, TransformerLens' names, of layer 0 for instance:
//!   hook_embed, blocks.0.attn.hook_q, blocks.0.attn.hook_k, blocks.0.attn.hook_v
//!   blocks.0.attn.hook_pattern, blocks.0.attn.hook_z, blocks.0.hook_resid_post
//!
//! read so far     attention to what followed      prediction
//! quickl                                   -      u with 0.07
//! quickly                                  -      y with 0.06
//! quicklyq                            0.4999      q with 0.25
//! quicklyqu                           0.9996      i with 0.86
//! quicklyqui                          0.9996      c with 0.86
//! quicklyquic                         0.9995      k with 0.86
//! quicklyquick                        0.9995      l with 0.86
//! quicklyquickl                       0.9995      y with 0.86
//! ```
//!
//! (The second q finds two matches: position 0 has nothing before it and is its own match.)
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use burn::tensor::Device;
use induction_model::{HandBuilt, Hook, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hand_built = HandBuilt::new(26, 64);
    let config = hand_built.config();
    let params = hand_built.params()?;
    println!(
        "{} layers of {} head, d_model {}, d_head {}, d_vocab {}: {} weights",
        config.n_layers,
        config.n_heads,
        config.d_model,
        config.d_head,
        config.d_vocab,
        config.n_params()
    );
    println!("\n{:24} {:>14} {:>9}", "parameter", "shape", "not zero");
    for (name, value) in params.iter() {
        let not_zero = value.iter().filter(|x| **x != 0.0).count();
        println!("{name:24} {:>14} {not_zero:>9}", format!("{:?}", value.shape()));
    }
    let hooks = [
        Hook::Embed,
        Hook::Q(0),
        Hook::K(0),
        Hook::V(0),
        Hook::Pattern(0),
        Hook::Z(0),
        Hook::ResidPost(0),
    ];
    println!("\nhook points, TransformerLens' names, of layer 0 for instance:");
    hooks.chunks(4).for_each(|hooks| {
        println!("  {}", hooks.iter().map(Hook::to_string).collect::<Vec<_>>().join(", "));
    });

    // Letters are tokens. Nothing is known of "quickly"; from its second copy on, what followed
    // each letter is.
    let text = "quicklyquickl";
    let tokens: Vec<u32> = text.bytes().map(|letter| u32::from(letter - b'a')).collect();
    let model = Transformer::from_params(&config, &params, &Device::flex())?;
    let logits =
        model.forward(&tokens, 1).try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))?;
    println!("\nread so far     attention to what followed      prediction");
    for (at, logits) in logits.chunks_exact(config.d_vocab).enumerate().skip(5) {
        let best =
            (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).ok_or("no token")?;
        let sum: f32 = logits.iter().map(|logit| (logit - logits[best]).exp()).sum();
        // In closed form: the second layer's head, on the key one after the last copy of this
        // letter.
        let followed = text[..at].rfind(&text[at..=at]).map(|last| last + 1);
        let attention = followed.map_or("-".into(), |key| {
            format!("{:.4}", hand_built.induction_attention(&tokens, at, key))
        });
        let letter = char::from(b'a' + best as u8);
        println!("{:15} {attention:>26}      {letter} with {:.2}", &text[..=at], 1.0 / sum);
    }
    Ok(())
}
