// How many ways a grammar offers at one place of a text, counted before llama.cpp walks them all.
#pragma once

#include <map>
#include <string>

#include "grammar_parser.h"

namespace personaplug {

// llama.cpp keeps a stack for each way in which a text can be read so far, and compares each new one with all others.
// An estimate of these comparisons for one token: the ways at the beginning, times the most that one of them can fan
// out to, times the ways again. Usual grammars are below a million. Loops that are empty or equal within loops make it
// astronomic: such a grammar would be walked for hours.
double grammar_cost(const std::map<std::string, GrammarNode> &rules);

} // namespace personaplug
