// A grammar as this project reads it, before llama.cpp does: what llama.cpp answers with a line on stderr, with a crash
// or with gigabytes is refused here, with its line and column.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace personaplug {

struct GrammarNode {
    enum class Kind { character, rule, sequence, choice, repeat } kind = Kind::sequence;
    std::string name; // of the rule
    std::vector<GrammarNode> parts;
    int least = 0;
    int most = 0; // of a repeat; -1: any number
};

// The rules of a GBNF text by name, "root" among them. Follows llama_grammar_parser (llama-grammar.cpp), and is as
// strict. Throws GrammarError where the text does not parse, nests too deep, or would be unfolded to too much.
std::map<std::string, GrammarNode> parse_grammar(const std::string &gbnf);

} // namespace personaplug
