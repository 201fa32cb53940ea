#include "tokenizer.h"

#include <limits>

#include "error.h"
#include "utf8.h"

namespace personaplug {

Tokenizer::Tokenizer(const llama_vocab *vocab) : vocab_(vocab), size_(llama_vocab_n_tokens(vocab)) {
    for (int32_t id = 0; id < size_; ++id) {
        if (is_end(id)) {
            ends_.push_back(id);
        }
    }
}

std::vector<int32_t> Tokenizer::tokenize(std::string_view text, bool add_special, bool parse_special) const {
    if (text.find('\0') != std::string_view::npos) {
        throw TextError("text holds a NUL character at byte " + std::to_string(text.find('\0')) +
                        "; expected text without it");
    }
    if (!is_utf8(text)) {
        throw TextError("text is not valid UTF-8; expected text without lone surrogates or broken bytes");
    }
    if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()) / 2) {
        throw TextError("text has " + std::to_string(text.size()) + " bytes; expected less than 1 GiB");
    }
    const auto length = static_cast<int32_t>(text.size());
    std::vector<int32_t> ids(text.size() / 2 + 16);
    for (;;) {
        int32_t count = 0;
        try {
            count = llama_tokenize(vocab_, text.data(), length, ids.data(), static_cast<int32_t>(ids.size()),
                                   add_special, parse_special);
        } catch (const std::exception &failure) {
            throw TextError(std::string("the tokenizer refuses this text: ") + failure.what());
        }
        if (count >= 0) {
            ids.resize(count);
            return ids;
        }
        if (count == std::numeric_limits<int32_t>::min()) {
            throw TextError("text gives more tokens than llama.cpp can count; split it");
        }
        ids.resize(-count);
    }
}

std::string Tokenizer::detokenize(const std::vector<int32_t> &ids) const {
    for (const int32_t id : ids) {
        check(id);
    }
    std::string text(ids.size() * 8 + 16, '\0');
    for (;;) {
        const int32_t length = llama_detokenize(vocab_, ids.data(), static_cast<int32_t>(ids.size()), text.data(),
                                                static_cast<int32_t>(text.size()), false, false);
        if (length >= 0) {
            text.resize(length);
            return text;
        }
        text.resize(-length);
    }
}

std::string Tokenizer::piece(int32_t id, bool special) const {
    char buffer[64];
    const int32_t length = llama_token_to_piece(vocab_, id, buffer, sizeof(buffer), 0, special);
    if (length >= 0) {
        return std::string(buffer, length);
    }
    std::string text(-length, '\0');
    llama_token_to_piece(vocab_, id, text.data(), static_cast<int32_t>(text.size()), 0, special);
    return text;
}

void Tokenizer::check(int64_t id) const {
    if (!has(id)) {
        throw PromptError("token id " + std::to_string(id) + " is outside the vocabulary; expected 0 to " +
                          std::to_string(size_ - 1));
    }
}

} // namespace personaplug
