// What llama.cpp would answer with an abort, or run wrongly, and what only shows when somebody's answer breaks.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

#include "adapters.h"
#include "digest.h"
#include "error.h"
#include "gguf_file.h"

namespace personaplug {
namespace {

const std::string kA = ".lora_a";
const std::string kB = ".lora_b";

bool ends_with(const std::string &text, const std::string &end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

float value_at(const char *data, ggml_type type, uint64_t index) {
    if (type == GGML_TYPE_F32) {
        float value;
        std::memcpy(&value, data + index * sizeof(value), sizeof(value));
        return value;
    }
    uint16_t bits;
    std::memcpy(&bits, data + index * sizeof(bits), sizeof(bits));
    return type == GGML_TYPE_F16 ? ggml_fp16_to_fp32(bits) : ggml_bf16_to_fp32(ggml_bf16_t{bits});
}

class Checker {
  public:
    Checker(const GgufFile &file, const Model &model) : file_(file), model_(model) {}

    void kind() const {
        if (file_.text("general.type") != "adapter" || file_.text("adapter.type") != "lora") {
            refuse("is not a LoRA adapter (general.type adapter, adapter.type lora)");
        }
        const std::string architecture = file_.text("general.architecture");
        if (architecture != model_.architecture()) {
            refuse("is for architecture " + (architecture.empty() ? "none" : architecture) + ", the LLM is " +
                   model_.architecture());
        }
        const auto alpha = file_.real("adapter.lora.alpha");
        if (file_.has("adapter.lora.alpha") && !(alpha && std::isfinite(*alpha))) {
            refuse("is damaged: adapter.lora.alpha is not a finite float32");
        }
        if (file_.has("adapter.alora.invocation_tokens")) {
            refuse("is an activated LoRA, which begins to act in the middle of a prompt; expected a plain one");
        }
    }

    void matrices() const {
        std::set<std::string> names;
        for (const std::string &tensor : file_.tensor_names()) {
            if (!ends_with(tensor, kA) && !ends_with(tensor, kB)) {
                refuse("holds " + tensor + "; expected pairs of matrices that end in .lora_a and .lora_b");
            }
            const std::string name = tensor.substr(0, tensor.size() - kA.size());
            // Embedding rows skip what a LoRA adds to the token table; experts share matrices of three dimensions.
            if (name == "token_embd.weight" || name.find("_exps") != std::string::npos) {
                refuse("changes " + name + ", which the engine cannot run; train the LoRA on other matrices");
            }
            names.insert(name);
        }
        if (names.empty()) {
            refuse("holds no matrix");
        }
        for (const std::string &name : names) {
            pair(name);
        }
    }

    // `content`: the whole file.
    void values(const std::string &content) const {
        for (const std::string &name : file_.tensor_names()) {
            const auto tensor = *file_.tensor(name);
            if (tensor.offset > content.size() || tensor.size > content.size() - tensor.offset) {
                refuse("is cut short: " + name + " does not lie within it");
            }
            const auto count = static_cast<uint64_t>(tensor.width * tensor.rows);
            for (uint64_t i = 0; i < count; ++i) {
                if (!std::isfinite(value_at(content.data() + tensor.offset, tensor.type, i))) {
                    refuse("is damaged: " + name + " holds a number that is not finite");
                }
            }
        }
    }

  private:
    void pair(const std::string &name) const {
        const auto a = file_.tensor(name + kA);
        const auto b = file_.tensor(name + kB);
        if (!a || !b) {
            refuse("lacks " + name + (a ? kB : kA));
        }
        for (const auto &tensor : {*a, *b}) {
            if (tensor.type != GGML_TYPE_F32 && tensor.type != GGML_TYPE_F16 && tensor.type != GGML_TYPE_BF16) {
                refuse("holds " + name + " as " + ggml_type_name(tensor.type) + "; expected f32, f16 or bf16");
            }
            if (!tensor.flat || tensor.width < 1 || tensor.rows < 1) {
                refuse("holds " + name + " in more than two dimensions, or empty");
            }
        }
        if (a->rows != b->width) {
            refuse("is damaged: the two parts of " + name + " have rank " + std::to_string(a->rows) + " and " +
                   std::to_string(b->width));
        }
        const auto matrix = model_.matrix(name);
        if (!matrix && model_.whole()) {
            refuse("changes " + name + ", which the LLM does not have; it was made for another one");
        }
        if (matrix && (matrix->first != a->width || matrix->second != b->rows)) {
            refuse("changes " + name + " as a matrix of " + std::to_string(b->rows) + " x " + std::to_string(a->width) +
                   ", in the LLM it is " + std::to_string(matrix->second) + " x " + std::to_string(matrix->first) +
                   "; it was made for another one");
        }
    }

    [[noreturn]] void refuse(const std::string &what) const {
        throw AdapterError("the adapter " + file_.path() + " " + what);
    }

    const GgufFile &file_;
    const Model &model_;
};

std::string read_all(const std::string &path) {
    std::string content;
    std::FILE *file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) {
        throw AdapterError("cannot open the adapter " + path + "; check its permissions");
    }
    char block[1 << 16];
    for (size_t got = std::fread(block, 1, sizeof(block), file); got > 0;
         got = std::fread(block, 1, sizeof(block), file)) {
        content.append(block, got);
    }
    std::fclose(file);
    return content;
}

} // namespace

AdapterFile check_adapter(const std::string &path, const Model &model) {
    AdapterFile made;
    made.path = path;
    made.stamp = file_stamp(path);
    try {
        const GgufFile file(path);
        const Checker checker(file, model);
        checker.kind();
        checker.matrices();
        const std::string content = read_all(path);
        checker.values(content);
        Digest digest;
        digest.add(content);
        made.digest = digest.finish();
        made.bytes = content.size();
    } catch (const ModelError &failure) {
        throw AdapterError(std::string("cannot use an adapter: ") + failure.what());
    }
    if (made.stamp.empty() || made.stamp != file_stamp(path)) {
        throw AdapterError("the adapter " + path + " changed while it was read; try again");
    }
    return made;
}

} // namespace personaplug
