#include "grammar_text.h"

#include <cctype>
#include <cstring>

#include "error.h"

namespace personaplug {
namespace {

constexpr int kMostDigits = 18;

bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; }

} // namespace

bool GrammarText::at_word() const { return in_word(here()); }

void GrammarText::fail(const std::string &what) const {
    const char *line = text_;
    size_t number = 1;
    for (const char *c = text_; c < text_ + at_; ++c) {
        if (*c == '\n') {
            line = c + 1;
            ++number;
        }
    }
    throw GrammarError("the grammar cannot be used: line " + std::to_string(number) + ", column " +
                       std::to_string(text_ + at_ - line + 1) + ": " + what);
}

bool GrammarText::any(const char *of) const { return here() != '\0' && std::strchr(of, here()) != nullptr; }

bool GrammarText::take(const char *expected) {
    const size_t size = std::strlen(expected);
    const bool there = std::strncmp(text_ + at_, expected, size) == 0;
    at_ += there ? size : 0;
    return there;
}

void GrammarText::skip(bool lines) {
    for (;; ++at_) {
        if (here() == '#') {
            at_ += std::strcspn(text_ + at_, "\r\n");
        }
        if (here() != ' ' && here() != '\t' && !(lines && (here() == '\r' || here() == '\n'))) {
            return;
        }
    }
}

std::string GrammarText::word() {
    const size_t begin = at_;
    while (in_word(here())) {
        ++at_;
    }
    if (at_ == begin) {
        fail("expected the name of a rule");
    }
    return std::string(text_ + begin, at_ - begin);
}

void GrammarText::character() {
    if (at_ >= end_) {
        fail("expected a closing quote or bracket, got the end");
    }
    if (here() != '\\') {
        do {
            ++at_;
        } while ((static_cast<unsigned char>(here()) & 0xC0) == 0x80); // the rest of a UTF-8 sequence
        return;
    }
    const char escape = text_[at_ + 1];
    if (escape == 'x' || escape == 'u' || escape == 'U') {
        const int digits = escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
        for (int i = 0; i < digits; ++i) {
            if (std::isxdigit(static_cast<unsigned char>(text_[at_ + 2 + i])) == 0) {
                fail(std::string("expected ") + std::to_string(digits) + " hexadecimal digits after \\" + escape);
            }
        }
        at_ += 2 + digits;
    } else if (escape != '\0' && std::strchr("trn\\\"[]-", escape) != nullptr) {
        at_ += 2;
    } else {
        fail("an escape that is none of \\t \\r \\n \\\\ \\\" \\[ \\] \\- \\x \\u \\U");
    }
}

int64_t GrammarText::literal() {
    int64_t count = 0;
    for (++at_; here() != '"'; ++count) {
        character();
    }
    ++at_;
    return count;
}

int64_t GrammarText::set_of_characters() {
    int64_t count = 0;
    at_ += text_[at_ + 1] == '^' ? 2 : 1;
    for (; here() != ']'; ++count) {
        character();
        if (here() == '-' && text_[at_ + 1] != ']') {
            ++at_;
            character();
            ++count;
        }
    }
    ++at_;
    return count;
}

void GrammarText::token() {
    at_ += here() == '!' ? 1 : 0;
    const char *end = here() == '<' ? std::strchr(text_ + at_, '>') : nullptr;
    if (end == nullptr) {
        fail("expected a token as <name> or <[id]>");
    }
    at_ = end + 1 - text_;
}

int64_t GrammarText::number() {
    int64_t value = 0;
    int digits = 0;
    for (; std::isdigit(static_cast<unsigned char>(here())) != 0 && digits <= kMostDigits; ++at_, ++digits) {
        value = 10 * value + (here() - '0');
    }
    if (digits == 0 || digits > kMostDigits) {
        fail("expected a number of repetitions");
    }
    return value;
}

} // namespace personaplug
