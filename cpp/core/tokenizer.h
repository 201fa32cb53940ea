// The tokenizer inside the GGUF file. Thread-safe; borrows the vocabulary from its Model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "llama.h"

namespace personaplug {

class Tokenizer {
  public:
    explicit Tokenizer(const llama_vocab *vocab);

    int32_t size() const { return size_; }
    const llama_vocab *vocab() const { return vocab_; }
    bool has(int64_t id) const { return id >= 0 && id < size_; }

    // Throws TextError: not UTF-8, holds NUL, or too long for llama.cpp (2^31 bytes).
    std::vector<int32_t> tokenize(std::string_view text, bool add_special, bool parse_special) const;
    // Bytes, not always UTF-8: a token can be a part of a character. Throws PromptError for an id outside the
    // vocabulary.
    std::string detokenize(const std::vector<int32_t> &ids) const;
    // The bytes of one token; control tokens render as nothing unless `special`. The id must be in the vocabulary.
    std::string piece(int32_t id, bool special) const;
    // The entry as the file writes it ("▁the", "<0x0A>"). The id must be in the vocabulary.
    std::string entry(int32_t id) const { return llama_vocab_get_text(vocab_, id); }
    bool is_end(int32_t id) const { return llama_vocab_is_eog(vocab_, id); }
    const std::vector<int32_t> &ends() const { return ends_; } // every token that is_end()
    int32_t bos() const { return llama_vocab_bos(vocab_); }
    int32_t eos() const { return llama_vocab_eos(vocab_); }
    bool adds_bos() const { return llama_vocab_get_add_bos(vocab_); }

    // Throws PromptError naming the id and the size of the vocabulary.
    void check(int64_t id) const;

  private:
    const llama_vocab *vocab_;
    int32_t size_;
    std::vector<int32_t> ends_;
};

} // namespace personaplug
