"""Configurations of tiny checkpoints of every family.

Not in conftest.py: test modules import it, and every test folder has a module of that name.
"""

from __future__ import annotations

from typing import Any

BLOCKS = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
WAVEFORM = BLOCKS | {
    "hidden_size": 32,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 8,
}
STABLE = WAVEFORM | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
ENCODER_DECODER = {
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
}

VARIANTS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    # name: model class, feature extractor class, configuration, feature extractor settings
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2FeatureExtractor", WAVEFORM, {}),
    "wav2vec2-stable": ("Wav2Vec2Model", "Wav2Vec2FeatureExtractor", STABLE, {}),
    "hubert": ("HubertModel", "Wav2Vec2FeatureExtractor", WAVEFORM, {}),
    "hubert-stable": ("HubertModel", "Wav2Vec2FeatureExtractor", STABLE, {}),
    "wavlm": (
        "WavLMModel",
        "Wav2Vec2FeatureExtractor",
        WAVEFORM | {"num_buckets": 16, "max_bucket_distance": 40},
        {"do_normalize": False},
    ),
    "wavlm-stable": ("WavLMModel", "Wav2Vec2FeatureExtractor", STABLE, {}),
    "data2vec-audio": (
        "Data2VecAudioModel",
        "Wav2Vec2FeatureExtractor",
        WAVEFORM | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
        {},
    ),
    "unispeech": ("UniSpeechModel", "Wav2Vec2FeatureExtractor", WAVEFORM, {"do_normalize": False}),
    "unispeech-sat": ("UniSpeechSatModel", "Wav2Vec2FeatureExtractor", STABLE, {}),
    "sew": ("SEWModel", "Wav2Vec2FeatureExtractor", WAVEFORM | {"squeeze_factor": 2}, {}),
    "moonshine": (
        "MoonshineModel",
        "Wav2Vec2FeatureExtractor",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "encoder_num_hidden_layers": 3,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 2,
            "decoder_num_attention_heads": 2,
        }
        | ENCODER_DECODER,
        {"do_normalize": False},
    ),
    "whisper": (
        "WhisperModel",
        "WhisperFeatureExtractor",
        {
            "d_model": 32,
            "num_hidden_layers": 3,
            "encoder_layers": 3,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 48,
            "max_source_positions": 100,
            "max_target_positions": 8,
        }
        | ENCODER_DECODER,
        {"chunk_length": 2},
    ),
    "wav2vec2-bert": (
        "Wav2Vec2BertModel",
        "SeamlessM4TFeatureExtractor",
        BLOCKS | {"hidden_size": 32, "conv_depthwise_kernel_size": 7, "vocab_size": 8},
        {"padding_value": 1},
    ),
}
