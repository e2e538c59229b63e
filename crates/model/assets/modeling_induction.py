"""The small transformers of "In-context Learning and Induction Heads" (Olsson et al. 2022).

Pre-layer-norm (or none), sinusoidal positions that reach queries and keys alone, optional smeared keys, optional MLPs with
exact GELU, an unembedding of its own, no bias but the MLP's. Parameters have TransformerLens' names and shapes.

Every sequence starts with `<|bos|>` (id 0), which the tokenizer does not add. No cache of keys and values: `generate` computes
the whole sequence anew for each token. Sequences may be padded on the right only.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_induction import InductionConfig


def sinusoids(pos, config, like):
    """[pos, d_model]: entry 2i is sin(t base^(-2i / d_model)), entry 2i + 1 the cosine of the same."""
    t = torch.arange(pos, dtype=torch.float64, device="cpu")[:, None]
    i = torch.arange(0, config.d_model, 2, dtype=torch.float64, device="cpu")
    angle = t * config.position_base ** (-i / config.d_model)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(pos, config.d_model).to(like)


class Embed(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(config.d_vocab, config.d_model))

    def forward(self, ids):  # [batch, pos] -> [batch, pos, d_model]
        return F.embedding(ids, self.W_E)


class Unembed(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.W_U = nn.Parameter(torch.empty(config.d_model, config.d_vocab))

    def forward(self, x):  # [batch, pos, d_model] -> [batch, pos, d_vocab]
        return x @ self.W_U


class LayerNorm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.w = nn.Parameter(torch.empty(config.d_model))
        self.b = nn.Parameter(torch.empty(config.d_model))
        self.eps = config.layer_norm_eps

    def forward(self, x):
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)


def norm(config):
    return LayerNorm(config) if config.normalization == "LN" else nn.Identity()


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        heads, d_model, d_head = config.n_heads, config.d_model, config.d_head
        self.layer = layer
        self.W_Q = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_K = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_V = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, d_model))
        self.pos_gain = nn.Parameter(torch.empty(1))
        if config.smeared_keys:
            self.smear_alpha = nn.Parameter(torch.empty(heads))
        else:
            self.smear_alpha = None

    def forward(self, x, positions):
        """[batch, pos, d_model], [pos, d_model] -> [batch, pos, d_model], pattern [batch, head, query, key]"""
        at = x + self.pos_gain * positions  # what queries and keys are made of; values know no position
        q, k, v = (torch.einsum("bpm,hmd->bhpd", y, w) for y, w in ((at, self.W_Q), (at, self.W_K), (x, self.W_V)))
        if self.smear_alpha is not None:
            # k_j <- s k_j + (1 - s) k_{j-1}, s = sigmoid(alpha), one alpha a head; k_0 stays
            s = torch.sigmoid(self.smear_alpha)[:, None, None]
            before = torch.cat([k[:, :, :1], k[:, :, :-1]], 2)
            k = before + (k - before) * s
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [batch, head, query, key]
        pos = x.shape[1]
        later = torch.ones(pos, pos, dtype=torch.bool, device=x.device).triu(1)
        pattern = scores.masked_fill(later, -math.inf).softmax(-1)
        return torch.einsum("bhpd,hdm->bpm", pattern @ v, self.W_O), pattern


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(config.d_model, config.d_mlp))
        self.b_in = nn.Parameter(torch.empty(config.d_mlp))
        self.W_out = nn.Parameter(torch.empty(config.d_mlp, config.d_model))
        self.b_out = nn.Parameter(torch.empty(config.d_model))

    def forward(self, x):  # [batch, pos, d_model] -> the same
        return F.gelu(x @ self.W_in + self.b_in) @ self.W_out + self.b_out


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.ln1 = norm(config)
        self.attn = Attention(config, layer)
        self.mlp = None
        if config.d_mlp > 0:
            self.ln2 = norm(config)
            self.mlp = MLP(config)

    def forward(self, x, positions):
        attn_out, pattern = self.attn(self.ln1(x), positions)
        x = x + attn_out
        if self.mlp is not None:
            x = x + self.mlp(self.ln2(x))
        return x, pattern


class InductionForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = InductionConfig
    base_model_prefix = ""
    _no_split_modules = ["Block"]
    _auto_class = "AutoModelForCausalLM"  # so that `save_pretrained` takes this file along
    # The loss is the mean over this batch's tokens: `Trainer` need not say how many there are in several.
    accepts_loss_kwargs = False

    def __init__(self, config):
        super().__init__(config)
        self.embed = Embed(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.ln_final = norm(config)
        self.unembed = Unembed(config)
        self.post_init()

    def _init_weights(self, module):
        """As `induction train` starts: for models made anew, not for those that are loaded."""
        c = self.config
        reads, writes = c.d_model**-0.5, (2 * c.n_layers) ** -0.5
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("W_"):
                std = {"W_E": 1.0, "W_O": reads * writes, "W_out": c.d_mlp**-0.5 * writes if c.d_mlp else 0.0}.get(name, reads)
                nn.init.normal_(parameter, std=std)
            elif name == "pos_gain":
                nn.init.constant_(parameter, c.pos_gain_init[min(module.layer, 1)])
            else:
                nn.init.constant_(parameter, float(name == "w"))

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return None  # never tied

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(
        self,
        input_ids,
        attention_mask=None,
        labels=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        **kwargs,
    ):
        """
        input_ids        [batch, pos], at most n_ctx of them
        attention_mask   [batch, pos], optional: 0 after a sequence's end, where logits mean nothing; nothing else may be 0
        labels           [batch, pos], optional: input_ids again, -100 where a token is not to be predicted. The logits at each
                         position are held against the label of the next; `loss` is the mean in nats
        ->
        logits           [batch, pos, d_vocab]
        attentions       a layer's pattern each, [batch, head, query, key], with output_attentions
        hidden_states    the residual stream before the first block and after each, [batch, pos, d_model], with output_hidden_states
        """
        pos = input_ids.shape[1]
        if pos > self.config.n_ctx:
            raise ValueError(f"{pos} tokens: this model has a context of n_ctx = {self.config.n_ctx}")
        if attention_mask is not None and (attention_mask.cumprod(-1) != attention_mask).any():
            raise ValueError('attention_mask: sequences may be padded on the right only (padding_side="right")')
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states

        x = self.embed(input_ids)
        positions = sinusoids(pos, self.config, like=x)
        residuals, patterns = [x], []
        for block in self.blocks:
            x, pattern = block(x, positions)
            residuals.append(x)
            patterns.append(pattern)
        logits = self.unembed(self.ln_final(x))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        output = CausalLMOutput(
            loss=loss,
            logits=logits,
            hidden_states=tuple(residuals) if output_hidden_states else None,
            attentions=tuple(patterns) if output_attentions else None,
        )
        return output.to_tuple() if return_dict is False else output
