use std::fmt;

/// A place in the model where an activation can be seen or replaced, with TransformerLens' name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl Hook {
    /// The layer that it is in; none of the embedding.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Embed => None,
            Self::Q(l) | Self::K(l) | Self::V(l) | Self::Pattern(l) | Self::Z(l) => Some(l),
            Self::AttnOut(l) | Self::MlpOut(l) | Self::ResidPost(l) => Some(l),
        }
    }
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
