#include "grammar_cost.h"

#include <algorithm>

namespace personaplug {
namespace {

using Node = GrammarNode;

constexpr double kEndless = 1e100;
constexpr int kRounds = 64; // until the counts of rules that use each other stand

// Of a part of the grammar: ways to its first character, and ways to pass it with none.
struct Ways {
    double first = 0;
    double empty = 0;
};

Ways capped(Ways ways) { return {std::min(ways.first, kEndless), std::min(ways.empty, kEndless)}; }

class Counter {
  public:
    explicit Counter(const std::map<std::string, Node> &rules) : rules_(rules) {}

    double cost() {
        bool changed = true;
        for (int round = 0; changed && round < kRounds; ++round) {
            changed = false;
            widest_ = 0;
            // Rules mostly use those that come after them.
            for (auto rule = rules_.rbegin(); rule != rules_.rend(); ++rule) {
                const Ways now = count(rule->second);
                Ways &known = ways_[rule->first];
                changed |= now.first != known.first || now.empty != known.empty;
                known = now;
            }
        }
        const double begin = std::max(1.0, ways_["root"].first);
        return begin * std::max(1.0, widest_) * begin;
    }

  private:
    Ways count(const Node &node) {
        switch (node.kind) {
        case Node::Kind::character:
            return {1, 0};
        case Node::Kind::rule:
            return ways_[node.name];
        case Node::Kind::choice: {
            Ways all;
            for (const Node &part : node.parts) {
                const Ways ways = count(part);
                all.first += ways.first;
                all.empty += ways.empty;
            }
            return capped(all);
        }
        case Node::Kind::repeat:
            return repeat(count(node.parts.front()), node.least, node.most);
        case Node::Kind::sequence:
            break;
        }
        Ways rest{0, 1}; // of what follows, from the end
        for (auto part = node.parts.rbegin(); part != node.parts.rend(); ++part) {
            widest_ = std::max(widest_, rest.first);
            rest = before(count(*part), rest);
        }
        return rest;
    }

    static Ways before(Ways part, Ways rest) {
        return capped({part.first + part.empty * rest.first, part.empty * rest.empty});
    }

    // As llama.cpp unfolds it: so many times, then each further one is optional within the one before.
    Ways repeat(Ways part, int least, int most) {
        Ways rest{0, 1};
        if (most < 0) {
            rest = {part.first, 1 + part.empty};
        } else {
            for (int i = least; i < most; ++i) {
                rest = before(part, rest);
                rest.empty += 1;
            }
        }
        for (int i = 0; i < least; ++i) {
            widest_ = std::max(widest_, rest.first);
            rest = before(part, rest);
        }
        widest_ = std::max(widest_, rest.first);
        return capped(rest);
    }

    const std::map<std::string, Node> &rules_;
    std::map<std::string, Ways> ways_;
    double widest_ = 0; // the most ways after a character
};

} // namespace

double grammar_cost(const std::map<std::string, GrammarNode> &rules) { return Counter(rules).cost(); }

} // namespace personaplug
