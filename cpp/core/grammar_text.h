// The text of a grammar and a place in it: GBNF's words, spaces, literals and numbers, as llama_grammar_parser reads
// them.
#pragma once

#include <cstdint>
#include <string>

namespace personaplug {

// The text must outlive it, and have no NUL within. What is not as expected is a GrammarError.
class GrammarText {
  public:
    explicit GrammarText(const std::string &text) : text_(text.c_str()), end_(text.size()) {}

    [[noreturn]] void fail(const std::string &what) const; // says the line and the column
    size_t at() const { return at_; }
    void go(size_t at) { at_ = at; }
    bool at_end() const { return at_ >= end_; }
    bool at_word() const;
    char here() const { return text_[at_]; } // NUL at the end
    // Whether one of these characters is here.
    bool any(const char *of) const;
    // Passes `expected` if it is here.
    bool take(const char *expected);
    void skip(bool lines); // spaces and comments; ends of lines, too?

    // Each passes what it names; the last ones give the number of elements that llama.cpp makes of it.
    std::string word();
    int64_t number();
    void token(); // which ones there are llama.cpp knows
    int64_t literal();
    int64_t set_of_characters();

  private:
    void character(); // within quotes or brackets

    const char *text_;
    size_t end_;
    size_t at_ = 0;
};

} // namespace personaplug
