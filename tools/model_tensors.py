"""The tensors that a model directory must hold: names and shapes from its config.json.

The same contract as docs/model-directory.md and the loaders of the library. A dimension of None may have any size.
"""

class Tensors(dict):
    """Names to shapes; the helpers add what one layer stores."""

    def linear(self, name, outputs, inputs, bias=True):
        self[f"{name}.weight"] = (outputs, inputs)
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def conv(self, name, outputs, inputs, kernel, bias=True):
        self[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def norm(self, name, width):
        self[f"{name}.weight"] = (width,)
        self[f"{name}.bias"] = (width,)


def required(config, has):
    """Names to shapes of all modules; `has(name)` says whether a source holds a name."""
    tensors = Tensors()
    vit(tensors, "visual_encoder", config["visual_encoder"], has)
    if config.get("visual_tower"):
        convnext(tensors, "visual_tower", config["visual_tower"], has)
    projector(tensors, "projector.model.", config["projector"])
    if config.get("vpt_encoder"):
        vpt_encoder(tensors, config["vpt_encoder"])
    llama(tensors, config["llm"])
    if config.get("vd_adapter"):
        vd_adapter(tensors, config["vd_adapter"])
    for name, head in (config.get("visual_decoder") or {}).items():
        prefix = f"visual_decoder.{name}"
        if name == "box":
            box_head(tensors, prefix, head, head, 100)
        elif name in ("mask", "depth"):
            mask_head(tensors, prefix, head)
        elif name == "pose":
            pose_head(tensors, prefix, head)
        else:
            raise KeyError(f"visual_decoder.{name}: is no head; box, mask, pose and depth are")
    return tensors


def vit(tensors, prefix, config, has):
    kinds = {
        "clip_vision_model": clip_vit,
        "siglip_vision_model": clip_vit,
        "dinov2": dinov2_vit,
        "dinov2_with_registers": dinov2_vit,
        "timm_vit": timm_vit,
    }
    kind = config.get("model_type")
    if kind not in kinds:
        raise KeyError(f"{prefix}.model_type: {kind!r} is none of {', '.join(kinds)}")
    kinds[kind](tensors, prefix, config, has)


def root_of(prefix, roots, probe, has):
    """The first root under which the probe lies, else the first root."""
    paths = [f"{prefix}.{root}" if root else prefix for root in roots]
    return next((path for path in paths if has(f"{path}.{probe}")), paths[0])


def clip_vit(t, prefix, config, has):
    siglip = config["model_type"] == "siglip_vision_model"
    root = root_of(prefix, ["vision_model", ""], "embeddings.patch_embedding.weight", has)
    width, ffn = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    t.conv(f"{root}.embeddings.patch_embedding", width, 3, config.get("patch_size", 16 if siglip else 32), siglip)
    if not siglip:
        t[f"{root}.embeddings.class_embedding"] = (width,)
        t.norm(f"{root}.pre_layrnorm", width)
    t[f"{root}.embeddings.position_embedding.weight"] = (None, width)
    for index in range(config.get("num_hidden_layers", 12)):
        layer = f"{root}.encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            t.linear(f"{layer}.self_attn.{name}", width, width)
        t.norm(f"{layer}.layer_norm1", width)
        t.norm(f"{layer}.layer_norm2", width)
        t.linear(f"{layer}.mlp.fc1", ffn, width)
        t.linear(f"{layer}.mlp.fc2", width, ffn)
    t.norm(f"{root}.post_layernorm", width)
    if siglip and config.get("vision_use_head", True):
        head = f"{root}.head"
        t[f"{head}.probe"] = (1, 1, width)
        t[f"{head}.attention.in_proj_weight"] = (3 * width, width)
        t[f"{head}.attention.in_proj_bias"] = (3 * width,)
        t.linear(f"{head}.attention.out_proj", width, width)
        t.norm(f"{head}.layernorm", width)
        t.linear(f"{head}.mlp.fc1", ffn, width)
        t.linear(f"{head}.mlp.fc2", width, ffn)


def dinov2_vit(t, prefix, config, has):
    patch = "embeddings.patch_embeddings.projection"
    root = root_of(prefix, ["", "dinov2", "dinov2_with_registers"], f"{patch}.weight", has)
    width = config.get("hidden_size", 768)
    ffn = int(width * config.get("mlp_ratio", 4))
    t.conv(f"{root}.{patch}", width, 3, config.get("patch_size", 14))
    t[f"{root}.embeddings.cls_token"] = (1, 1, width)
    t[f"{root}.embeddings.position_embeddings"] = (1, None, width)
    registers = config.get("num_register_tokens", 4 if config["model_type"] == "dinov2_with_registers" else 0)
    if registers:
        t[f"{root}.embeddings.register_tokens"] = (1, registers, width)
    for index in range(config.get("num_hidden_layers", 12)):
        layer = f"{root}.encoder.layer.{index}"
        for name in ("query", "key", "value"):
            t.linear(f"{layer}.attention.attention.{name}", width, width, config.get("qkv_bias", True))
        t.linear(f"{layer}.attention.output.dense", width, width)
        t.norm(f"{layer}.norm1", width)
        t.norm(f"{layer}.norm2", width)
        t[f"{layer}.layer_scale1.lambda1"] = (width,)
        t[f"{layer}.layer_scale2.lambda1"] = (width,)
        t.linear(f"{layer}.mlp.fc1", ffn, width)
        t.linear(f"{layer}.mlp.fc2", width, ffn)
    t.norm(f"{root}.layernorm", width)


def timm_vit(t, prefix, config, has):
    root = root_of(prefix, ["", "encoder"], "patch_embed.proj.weight", has)
    width, heads = config.get("embed_dim", 768), config.get("num_heads", 12)
    ffn = int(width * config.get("mlp_ratio", 4))
    patch = config.get("patch_size", 16)
    pool = config.get("global_pool", "token")
    pool_norm = config["fc_norm"] if config.get("fc_norm") is not None else pool == "avg"
    t.conv(f"{root}.patch_embed.proj", width, 3, patch[0] if isinstance(patch, list) else patch, not config.get("pre_norm"))
    if config.get("class_token", True):
        t[f"{root}.cls_token"] = (1, 1, width)
    if config.get("reg_tokens"):
        t[f"{root}.reg_token"] = (1, config["reg_tokens"], width)
    t[f"{root}.pos_embed"] = (1, None, width)
    if config.get("pre_norm"):
        t.norm(f"{root}.norm_pre", width)
    for index in range(config.get("depth", 12)):
        block = f"{root}.blocks.{index}"
        t.linear(f"{block}.attn.qkv", 3 * width, width, config.get("qkv_bias", True))
        t.linear(f"{block}.attn.proj", width, width)
        if config.get("qk_norm"):
            t.norm(f"{block}.attn.q_norm", width // heads)
            t.norm(f"{block}.attn.k_norm", width // heads)
        t.norm(f"{block}.norm1", width)
        t.norm(f"{block}.norm2", width)
        if config.get("init_values"):
            t[f"{block}.ls1.gamma"] = (width,)
            t[f"{block}.ls2.gamma"] = (width,)
        t.linear(f"{block}.mlp.fc1", ffn, width)
        t.linear(f"{block}.mlp.fc2", width, ffn)
    if config.get("final_norm", True) and not pool_norm:
        t.norm(f"{root}.norm", width)
    if pool_norm:
        t.norm(f"{root}.fc_norm", width)
    if pool == "map":
        head = f"{root}.attn_pool"
        t[f"{head}.latent"] = (1, 1, width)
        t.linear(f"{head}.q", width, width)
        t.linear(f"{head}.kv", 2 * width, width)
        t.linear(f"{head}.proj", width, width)
        t.norm(f"{head}.norm", width)
        t.linear(f"{head}.mlp.fc1", ffn, width)
        t.linear(f"{head}.mlp.fc2", width, ffn)


def convnext(t, prefix, config, has):
    root = root_of(prefix, ["visual.trunk", "trunk", ""], "stem.0.weight", has)
    dims, depths = config.get("dims", [96, 192, 384, 768]), config.get("depths", [3, 3, 9, 3])
    kernel, ratio = config.get("kernel_sizes", 7), config.get("mlp_ratio", 4)
    kernel = kernel[0] if isinstance(kernel, list) else kernel
    ones = (1, 1) if config.get("conv_mlp") else ()
    t.conv(f"{root}.stem.0", dims[0], 3, config.get("patch_size", 4))
    t.norm(f"{root}.stem.1", dims[0])
    for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        if stage:
            t.norm(f"{root}.stages.{stage}.downsample.0", dims[stage - 1])
            t.conv(f"{root}.stages.{stage}.downsample.1", dim, dims[stage - 1], 2)
        for index in range(depth):
            block = f"{root}.stages.{stage}.blocks.{index}"
            t.conv(f"{block}.conv_dw", dim, 1, kernel)
            t.norm(f"{block}.norm", dim)
            for name, outputs, inputs in (("fc1", ratio * dim, dim), ("fc2", dim, ratio * dim)):
                t[f"{block}.mlp.{name}.weight"] = (outputs, inputs, *ones)
                t[f"{block}.mlp.{name}.bias"] = (outputs,)
            if config.get("ls_init_value", 1e-6):
                t[f"{block}.gamma"] = (dim,)


def projector(t, stem, config):
    inputs = config["visual_hidden_size"]
    for index in range(config.get("depth", 2)):
        t.linear(f"{stem}{2 * index}", config["llm_hidden_size"], inputs, config.get("bias", True))
        inputs = config["llm_hidden_size"]


def vpt_encoder(t, config):
    width = config["visual_hidden_size"]
    if config.get("strategy", "pooling") == "embedding":
        t.conv("vpt_encoder.model.patch_embedding", width, width, config.get("patch_size", 8), False)
    mask_token = bool(config.get("use_mask_token"))
    if mask_token:
        t.linear("vpt_encoder.model.mask_embedding", width, 1)
    t["vpt_encoder.model.position_embedding.weight"] = (config.get("num_patches", 9) + mask_token, width)
    if config.get("use_projector"):
        projector(t, "vpt_encoder.model.projector.", config)


def llama(t, config):
    width, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head = config.get("head_dim") or width // heads
    bias, mlp_bias = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
    t["llm.model.embed_tokens.weight"] = (vocab, width)
    for index in range(config["num_hidden_layers"]):
        layer = f"llm.model.layers.{index}"
        t[f"{layer}.input_layernorm.weight"] = (width,)
        t[f"{layer}.post_attention_layernorm.weight"] = (width,)
        t.linear(f"{layer}.self_attn.q_proj", heads * head, width, bias)
        t.linear(f"{layer}.self_attn.k_proj", kv_heads * head, width, bias)
        t.linear(f"{layer}.self_attn.v_proj", kv_heads * head, width, bias)
        t.linear(f"{layer}.self_attn.o_proj", width, heads * head, bias)
        t.linear(f"{layer}.mlp.gate_proj", ffn, width, mlp_bias)
        t.linear(f"{layer}.mlp.up_proj", ffn, width, mlp_bias)
        t.linear(f"{layer}.mlp.down_proj", width, ffn, mlp_bias)
    t["llm.model.norm.weight"] = (width,)
    if not config.get("tie_word_embeddings"):
        t["llm.lm_head.weight"] = (vocab, width)


def vd_adapter(t, config):
    width, ffn = config.get("d_model", 1024), config.get("d_ffn", 2048)
    for name in ("in_proj_image", "in_proj_text"):
        t.linear(f"vd_adapter.{name}.lin1", None, width)
        t.linear(f"vd_adapter.{name}.lin2", width, None)
    tokens = config.get("ref_max_length", 100) + config.get("phrase_max_length", 100)
    t["vd_adapter.text_embedding.weight"] = (tokens, width)
    t["vd_adapter.pe_image.positional_encoding_gaussian_matrix"] = (2, width // 2)

    def attention(name, inner):
        for part in ("q_proj", "k_proj", "v_proj"):
            t.linear(f"{name}.{part}", inner, width)
        t.linear(f"{name}.out_proj", width, inner)

    for index in range(config.get("num_layers", 2)):
        layer = f"vd_adapter.model.layers.{index}"
        attention(f"{layer}.self_attn", width)
        attention(f"{layer}.cross_attn_token_to_image", width // 2)
        attention(f"{layer}.cross_attn_image_to_token", width // 2)
        for norm in range(1, 5):
            t.norm(f"{layer}.norm{norm}", width)
        t.linear(f"{layer}.mlp.lin1", ffn, width)
        t.linear(f"{layer}.mlp.lin2", width, ffn)
    attention("vd_adapter.model.final_attn_token_to_image", width // 2)
    t.norm("vd_adapter.model.norm_final_attn", width)


def detr(t, prefix, config, layers):
    width, ffn = config.get("d_model", 256), config.get("decoder_ffn_dim", 2048)
    for index in range(config.get("decoder_layers", layers)):
        layer = f"{prefix}.layers.{index}"
        for attention in ("self_attn", "encoder_attn"):
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                t.linear(f"{layer}.{attention}.{name}", width, width)
            t.norm(f"{layer}.{attention}_layer_norm", width)
        t.linear(f"{layer}.fc1", ffn, width)
        t.linear(f"{layer}.fc2", width, ffn)
        t.norm(f"{layer}.final_layer_norm", width)
    t.norm(f"{prefix}.layernorm", width)


def mlp3(t, names, width, outputs):
    for name, size in zip(names, (width, width, outputs), strict=True):
        t.linear(name, size, width)


def channels(config, shared):
    dims = config.get("encoder_input_dim", shared.get("encoder_input_dim"))
    return sum(dims) if isinstance(dims, list) else dims


def box_head(t, prefix, config, shared, queries):
    width = config.get("d_model", 256)
    slots = config.get("num_queries", shared.get("num_queries", queries))
    t.linear(f"{prefix}.in_proj_visual_feats", width, channels(config, shared))
    t.linear(f"{prefix}.in_proj_queries", width, config.get("quries_input_dim", 256))
    t[f"{prefix}.query_position_embeddings.weight"] = (slots, width)
    detr(t, f"{prefix}.decoder", config, 6)
    mlp3(t, [f"{prefix}.predictor.layers.{index}" for index in range(3)], width, 4)


def mask_head(t, prefix, config):
    width, size = config.get("d_model", 256), config.get("fpn_feature_size", 256)
    dims = config.get("encoder_input_dim", [1024, 1024, 1024])
    if dims[-1] != width:
        t.conv(f"{prefix}.in_proj_visual_feats", width, dims[-1], 1)
    fpn = f"{prefix}.pixel_decoder.fpn"

    def normed(name, inputs, kernel):
        t.conv(f"{name}.0", size, inputs, kernel, False)
        t.norm(f"{name}.1", size)

    normed(f"{fpn}.stem", dims[-1], 3)
    for index, dim in enumerate(reversed(dims[:-1])):
        normed(f"{fpn}.layers.{index}.proj", dim, 1)
        normed(f"{fpn}.layers.{index}.block", size, 3)
    outputs = config.get("mask_feature_size", 256)
    t.conv(f"{prefix}.pixel_decoder.mask_projection", outputs, size, 3)
    t.linear(f"{prefix}.in_proj_queries", width, config.get("quries_input_dim", 4096))
    t[f"{prefix}.query_position_embeddings.weight"] = (config.get("num_queries", 30), width)
    detr(t, f"{prefix}.query_decoder", config, 10)
    mlp3(t, [f"{prefix}.mask_embedder.{index}.0" for index in range(3)], width, outputs)


def pose_head(t, prefix, config):
    box_head(t, f"{prefix}.box_decoder", config["box_config"], config, 20)
    own = config["keypoint_config"]
    root, width = f"{prefix}.kpt_decoder", own.get("d_model", 256)
    slots = own.get("num_queries", config.get("num_queries", 20))
    group = own.get("num_body_points", 17) + 1
    t.linear(f"{root}.in_proj_visual_feats", width, channels(own, config))
    t.linear(f"{root}.in_proj_queries", width, own.get("quries_input_dim", 256))
    t[f"{root}.kpt_embedding.weight"] = (group, width)
    t[f"{root}.query_position_embeddings.weight"] = (slots * group, width)
    detr(t, f"{root}.decoder", own, 6)
    for name, outputs in (("box_predictor", 4), ("kpt_predictor", 2)):
        mlp3(t, [f"{root}.{name}.layers.{index}" for index in range(3)], width, outputs)
    t.linear(f"{root}.kpt_classifier", 2, width)
