#include "grammar_cost.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace personaplug {
namespace {

constexpr double kEndless = 1e100;
constexpr int kRounds = 64;        // until the counts of rules that use each other stand
constexpr int kMostNested = 64;    // repetitions of repetitions
constexpr int kMostRepeats = 2000; // llama.cpp refuses more

// Of a part of the grammar: ways to its first character, and ways to pass it with none.
struct Ways {
    double first = 0;
    double empty = 0;
};

Ways capped(Ways ways) { return {std::min(ways.first, kEndless), std::min(ways.empty, kEndless)}; }

struct Node {
    enum class Kind { character, rule, sequence, choice, repeat } kind = Kind::sequence;
    std::string name; // of the rule
    std::vector<Node> parts;
    int least = 0;
    int most = 0; // of a repeat; -1: any number
};

class Parser {
  public:
    explicit Parser(const std::string &text) : text_(text) {}

    // The rules, or nothing.
    std::optional<std::map<std::string, Node>> rules() {
        std::map<std::string, Node> found;
        skip();
        while (good_ && at_ < text_.size()) {
            const std::string name = word();
            skip();
            if (name.empty() || text_.compare(at_, 3, "::=") != 0) {
                return std::nullopt;
            }
            at_ += 3;
            found[name] = choice();
        }
        if (!good_) {
            return std::nullopt;
        }
        return found;
    }

  private:
    void skip() {
        while (at_ < text_.size() && (std::isspace(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '#')) {
            if (text_[at_] == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
            } else {
                ++at_;
            }
        }
    }

    static bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_'; }

    std::string word() {
        const size_t begin = at_;
        while (at_ < text_.size() && in_word(text_[at_])) {
            ++at_;
        }
        return text_.substr(begin, at_ - begin);
    }

    // Passes what is quoted, its closing mark included; the number of characters in it.
    int quoted(char end) {
        int count = 0;
        ++at_;
        while (at_ < text_.size() && text_[at_] != end) {
            at_ += text_[at_] == '\\' ? 2 : 1;
            ++count;
        }
        good_ = good_ && at_ < text_.size();
        ++at_;
        return count;
    }

    Node choice() {
        Node node;
        node.kind = Node::Kind::choice;
        node.parts.push_back(sequence());
        while (good_ && at_ < text_.size() && text_[at_] == '|') {
            ++at_;
            node.parts.push_back(sequence());
        }
        return node;
    }

    Node sequence() {
        Node node;
        for (skip(); good_ && at_ < text_.size(); skip()) {
            Node part;
            part.kind = Node::Kind::character;
            const char c = text_[at_];
            if (c == '"') {
                if (quoted('"') == 0) {
                    continue;
                }
            } else if (c == '[') {
                quoted(']');
            } else if (c == '.') {
                ++at_;
            } else if (c == '<' || (c == '!' && at_ + 1 < text_.size() && text_[at_ + 1] == '<')) { // a token
                at_ += c == '!' ? 1 : 0;
                quoted('>');
            } else if (c == '(') {
                ++at_;
                part = choice();
                good_ = good_ && at_ < text_.size() && text_[at_] == ')';
                ++at_;
            } else if (in_word(c)) {
                const size_t before = at_;
                part.kind = Node::Kind::rule;
                part.name = word();
                skip();
                if (text_.compare(at_, 3, "::=") == 0) {
                    at_ = before; // the next rule
                    break;
                }
            } else {
                good_ = good_ && (c == '|' || c == ')');
                break;
            }
            node.parts.push_back(repeated(std::move(part)));
        }
        return node;
    }

    Node repeated(Node part) {
        skip();
        for (int depth = 0; good_ && at_ < text_.size(); ++depth) {
            Node node;
            node.kind = Node::Kind::repeat;
            node.most = -1;
            const char c = text_[at_];
            if (c == '+') {
                node.least = 1;
            } else if (c == '?') {
                node.most = 1;
            } else if (c == '{') {
                const size_t end = text_.find('}', at_);
                if (end == std::string::npos) {
                    good_ = false;
                    break;
                }
                const std::string inside = text_.substr(at_ + 1, end - at_ - 1);
                const size_t comma = inside.find(',');
                node.least = std::clamp(std::atoi(inside.c_str()), 0, kMostRepeats);
                node.most = comma == std::string::npos ? node.least : std::atoi(inside.c_str() + comma + 1);
                if (comma != std::string::npos && inside.find_first_of("0123456789", comma) == std::string::npos) {
                    node.most = -1;
                }
                node.most = std::min(node.most, kMostRepeats);
                at_ = end;
            } else if (c != '*') {
                break;
            }
            ++at_;
            good_ = depth < kMostNested;
            node.parts.push_back(std::move(part));
            part = std::move(node);
            skip();
        }
        return part;
    }

    const std::string &text_;
    size_t at_ = 0;
    bool good_ = true;
};

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

double grammar_cost(const std::string &gbnf) {
    const auto rules = Parser(gbnf).rules();
    return rules ? Counter(*rules).cost() : 0;
}

} // namespace personaplug
