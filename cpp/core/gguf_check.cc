// What llama.cpp would answer with an abort, or could run but not generate with.
#include <unordered_set>

#include "error.h"
#include "gguf_file.h"

namespace personaplug {
namespace {

constexpr int64_t kMostLayers = 512; // LLAMA_MAX_LAYERS

class Checker {
  public:
    explicit Checker(const GgufFile &file) : file_(file), architecture_(file.text("general.architecture")) {}

    void kind() const {
        const std::string named = " (architecture " + architecture_ + ")";
        if (architecture_.empty()) {
            refuse("does not say its architecture (general.architecture)");
        }
        if (architecture_ == "clip") {
            refuse("is an image encoder" + named);
        }
        if (architecture_ == "t5encoder" || architecture_.find("bert") != std::string::npos ||
            !file_.flag(architecture_ + ".attention.causal").value_or(true)) {
            refuse("is an encoder-only model" + named + " and cannot generate text");
        }
        if (architecture_ == "t5") {
            refuse("is an encoder-decoder model" + named + ", which this version cannot run");
        }
        if (number("pooling_type", 0) > 0) {
            refuse("is an embedding model with pooling" + named + " and cannot generate text");
        }
    }

    void tokenizer() const {
        const std::string model = file_.text("tokenizer.ggml.model");
        const auto tokens = file_.texts("tokenizer.ggml.tokens");
        if (model.empty() || model == "no_vocab" || tokens.empty()) {
            refuse("holds no tokenizer (tokenizer.ggml.model, tokenizer.ggml.tokens)");
        }
        std::unordered_set<std::string> seen;
        for (const auto &token : tokens) {
            if (!token.empty() && !seen.insert(token).second) {
                damaged("the token \"" + token + "\" is there twice");
            }
        }
    }

    void sizes() const {
        for (const char *key : {"block_count", "embedding_length", "context_length", "attention.head_count"}) {
            const auto value = file_.number(architecture_ + "." + key);
            // Recurrent models have no heads, and the converter says so.
            const int64_t least = key == std::string("attention.head_count") && recurrent() ? 0 : 1;
            if (value && (*value < least || *value > (int64_t{1} << 30))) {
                damaged(std::string(key) + " is " + std::to_string(*value));
            }
        }
        if (number("block_count", 1) > kMostLayers) {
            damaged("block_count is " + std::to_string(number("block_count", 1)));
        }
        const int64_t experts = number("expert_count", 0);
        const int64_t used = number("expert_used_count", 0);
        if (experts < 0 || used < 0 || used > experts || (experts > 0 && used == 0)) {
            damaged("expert_used_count is " + std::to_string(used) + " of " + std::to_string(experts));
        }
    }

    void heads() const {
        const int64_t count = number("attention.head_count", 1);
        if (count == 0) {
            return;
        }
        const int64_t shared = number("attention.head_count_kv", count);
        if (shared < 0 || (shared > 0 && count % shared != 0)) {
            damaged("attention.head_count_kv is " + std::to_string(shared) + " for " + std::to_string(count) +
                    " heads");
        }
        const int64_t width = number("attention.key_length", number("embedding_length", count) / count);
        const int64_t rotated = number("rope.dimension_count", width);
        if (width <= 0 || rotated < 0 || rotated > width) {
            damaged("rope.dimension_count is " + std::to_string(rotated) + " for heads of " + std::to_string(width));
        }
        // Their graphs assert it.
        const bool whole = architecture_ == "llama" || architecture_ == "qwen2" || architecture_ == "qwen3";
        if (whole && file_.number(architecture_ + ".rope.dimension_count") && rotated != width) {
            damaged("rope.dimension_count is " + std::to_string(rotated) + "; expected the heads' " +
                    std::to_string(width));
        }
    }

  private:
    // Without any attention; a hybrid's heads are a list, one number a layer.
    bool recurrent() const { return architecture_.rfind("mamba", 0) == 0 || architecture_.find("rwkv") <= 1; }
    int64_t number(const std::string &key, int64_t otherwise) const {
        return file_.number(architecture_ + "." + key).value_or(otherwise);
    }
    [[noreturn]] void refuse(const std::string &what) const {
        throw ModelError(file_.path() + " " + what + "; expected a decoder-only language model");
    }
    [[noreturn]] void damaged(const std::string &what) const {
        throw ModelError(file_.path() + " is damaged: " + what + "; fetch or convert it again");
    }

    const GgufFile &file_;
    const std::string architecture_;
};

} // namespace

void check_runnable(const GgufFile &file) {
    const Checker checker(file);
    checker.kind();
    checker.tokenizer();
    checker.sizes();
    checker.heads();
}

} // namespace personaplug
