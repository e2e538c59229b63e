use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A place in the model where an activation can be seen or replaced, with TransformerLens' name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Hook {
    /// `hook_embed`, `[batch, pos, d_model]`.
    Embed,
    /// `blocks.{l}.attn.hook_q`, `[batch, pos, head, d_head]`.
    Q(usize),
    /// `blocks.{l}.attn.hook_k`, after smearing, `[batch, pos, head, d_head]`.
    K(usize),
    /// `blocks.{l}.attn.hook_v`, `[batch, pos, head, d_head]`.
    V(usize),
    /// `blocks.{l}.attn.hook_pattern`, `[batch, head, query, key]`; rows sum to 1.
    Pattern(usize),
    /// `blocks.{l}.attn.hook_z`, what each head read, `[batch, pos, head, d_head]`.
    Z(usize),
    /// `blocks.{l}.hook_attn_out`, `[batch, pos, d_model]`.
    AttnOut(usize),
    /// `blocks.{l}.hook_mlp_out`, `[batch, pos, d_model]`.
    MlpOut(usize),
    /// `blocks.{l}.hook_resid_post`, `[batch, pos, d_model]`.
    ResidPost(usize),
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => write!(f, "hook_embed"),
            Self::Q(l) => write!(f, "blocks.{l}.attn.hook_q"),
            Self::K(l) => write!(f, "blocks.{l}.attn.hook_k"),
            Self::V(l) => write!(f, "blocks.{l}.attn.hook_v"),
            Self::Pattern(l) => write!(f, "blocks.{l}.attn.hook_pattern"),
            Self::Z(l) => write!(f, "blocks.{l}.attn.hook_z"),
            Self::AttnOut(l) => write!(f, "blocks.{l}.hook_attn_out"),
            Self::MlpOut(l) => write!(f, "blocks.{l}.hook_mlp_out"),
            Self::ResidPost(l) => write!(f, "blocks.{l}.hook_resid_post"),
        }
    }
}

impl FromStr for Hook {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownHook(text.to_string());
        if text == "hook_embed" {
            return Ok(Self::Embed);
        }
        let (layer, name) = text.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let l = layer.parse().map_err(|_| unknown())?;
        match name {
            "attn.hook_q" => Ok(Self::Q(l)),
            "attn.hook_k" => Ok(Self::K(l)),
            "attn.hook_v" => Ok(Self::V(l)),
            "attn.hook_pattern" => Ok(Self::Pattern(l)),
            "attn.hook_z" => Ok(Self::Z(l)),
            "hook_attn_out" => Ok(Self::AttnOut(l)),
            "hook_mlp_out" => Ok(Self::MlpOut(l)),
            "hook_resid_post" => Ok(Self::ResidPost(l)),
            _ => Err(unknown()),
        }
    }
}

impl From<Hook> for String {
    fn from(hook: Hook) -> Self {
        hook.to_string()
    }
}

impl TryFrom<String> for Hook {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        use Hook::*;
        for hook in [Embed, Q(0), K(1), V(2), Pattern(10), Z(3), AttnOut(4), MlpOut(5), ResidPost(6)] {
            assert_eq!(hook.to_string().parse::<Hook>().unwrap(), hook);
        }
        for bad in ["", "blocks.0", "blocks.x.attn.hook_q", "blocks.0.attn.hook_", "blocks.-1.attn.hook_q"] {
            assert!(bad.parse::<Hook>().is_err(), "{bad}");
        }
    }
}
