#include "grammar_parser.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "grammar_text.h"

namespace personaplug {
namespace {

using Node = GrammarNode;
using Kind = Node::Kind;

constexpr const char *kRepeats = "*+?{";
constexpr int kMostDeep = 64;      // llama.cpp's parser, and this one, call themselves for every open parenthesis
constexpr int kMostNested = 64;    // repetitions of repetitions
constexpr int kMostRepeats = 2000; // llama.cpp's MAX_REPETITION_THRESHOLD
constexpr int64_t kMostElements = 1000000; // of 8 bytes, which llama.cpp copies some times over

using Uses = std::map<std::string, size_t>; // names of rules, and where the first use is

class Parser {
  public:
    explicit Parser(const std::string &text) : text_(text) {}

    std::map<std::string, Node> rules() {
        std::map<std::string, Node> found;
        std::map<std::string, Uses> uses;
        text_.skip(true);
        while (!text_.at_end()) {
            const std::string name = text_.word();
            text_.skip(false);
            if (!text_.take("::=")) {
                text_.fail("expected ::= after the name of a rule");
            }
            text_.skip(true);
            used_.clear(); // what a rule that is written anew had used does not count
            found[name] = choice(false);
            uses[name] = used_;
            if (!text_.at_end() && !text_.any("\r\n")) {
                text_.fail("expected the end of the rule");
            }
            text_.skip(true);
        }
        for (const auto &[user, names] : uses) {
            for (const auto &[name, at] : names) {
                if (found.count(name) == 0) {
                    text_.go(at);
                    text_.fail("there is no rule named " + name);
                }
            }
        }
        if (found.count("root") == 0) {
            text_.fail("expected a rule named root");
        }
        return found;
    }

  private:
    void add(int64_t elements) {
        elements_ += elements;
        if (elements_ > kMostElements) {
            text_.fail("by here it stands for more than " + std::to_string(kMostElements) +
                       " characters and rules, with each repetition written out; repeat less, or put what is repeated "
                       "into a rule of its own");
        }
    }

    Node choice(bool nested) {
        Node node;
        node.kind = Kind::choice;
        node.parts.push_back(sequence(nested));
        while (text_.take("|")) {
            text_.skip(true);
            node.parts.push_back(sequence(nested));
        }
        return node;
    }

    // What llama.cpp has of an item in the rule that is being read: this many elements.
    struct Item {
        Node node;
        int64_t size = 0;
    };

    Node sequence(bool nested) {
        Node node;
        Item item;
        while (begin_item(item)) {
            text_.skip(nested);
            add(item.size);
            repeat(item, nested);
            if (item.size > 0) {
                node.parts.push_back(std::move(item.node));
            }
            item = Item{};
        }
        return node;
    }

    // False where none begins.
    bool begin_item(Item &item) {
        item.node.kind = Kind::character;
        item.size = 1;
        if (text_.here() == '"') {
            item.size = text_.literal();
        } else if (text_.here() == '[') {
            item.size = text_.set_of_characters();
        } else if (text_.any("<!")) {
            text_.token();
        } else if (text_.take(".")) {
            ;
        } else if (text_.take("(")) {
            item.node = group();
        } else if (text_.at_word()) {
            item.node.kind = Kind::rule;
            const size_t begin = text_.at();
            item.node.name = text_.word();
            used_.emplace(item.node.name, begin);
        } else if (text_.any(kRepeats)) {
            text_.fail(std::string("expected something to repeat before ") + text_.here());
        } else {
            return false;
        }
        return true;
    }

    Node group() {
        if (++depth_ > kMostDeep) {
            text_.fail("it nests parentheses more than " + std::to_string(kMostDeep) + " deep");
        }
        text_.skip(true);
        Node node = choice(true);
        if (!text_.take(")")) {
            text_.fail("expected a closing parenthesis");
        }
        --depth_;
        return node;
    }

    // Passes the repetitions after an item, which becomes what they make of it.
    void repeat(Item &item, bool nested) {
        for (int count = 0; text_.any(kRepeats); ++count) {
            if (item.size == 0) {
                text_.fail(std::string("expected something to repeat before ") + text_.here());
            }
            if (count >= kMostNested) {
                text_.fail("it repeats one item more than " + std::to_string(kMostNested) + " times over");
            }
            Node node;
            node.kind = Kind::repeat;
            bounds(node, nested);
            text_.skip(nested);
            // As llama.cpp unfolds it: so many copies, and a rule of its own for each further one.
            const int64_t further = node.most < 0 ? 1 : node.most - node.least;
            add(item.size * std::max(0, node.least - 1) + further * (item.size + 3));
            item.size = item.size * node.least + (further > 0 ? 1 : 0);
            node.parts.push_back(std::move(item.node));
            item.node = std::move(node);
        }
    }

    // Reads *, +, ?, {n}, {n,} or {n,m}.
    void bounds(Node &node, bool nested) {
        node.least = text_.here() == '+' ? 1 : 0;
        node.most = text_.here() == '?' ? 1 : -1;
        if (!text_.take("{")) {
            text_.go(text_.at() + 1);
            return;
        }
        text_.skip(nested);
        const int64_t least = text_.number();
        int64_t most = least;
        text_.skip(nested);
        if (text_.take(",")) {
            text_.skip(nested);
            most = text_.any("0123456789") ? text_.number() : -1;
            text_.skip(nested);
        }
        if (!text_.take("}")) {
            text_.fail("expected a closing brace");
        }
        if (least > kMostRepeats) {
            text_.fail("a repetition of at least " + std::to_string(least) + " times; expected at most " +
                       std::to_string(kMostRepeats));
        }
        if (most >= 0 && most < least) { // llama.cpp would unfold it without end
            text_.fail("a repetition of at least " + std::to_string(least) + " and at most " + std::to_string(most) +
                       " times");
        }
        node.least = static_cast<int>(least);
        node.most = most > kMostRepeats ? -1 : static_cast<int>(most); // as llama.cpp takes it
    }

    GrammarText text_;
    int depth_ = 0;
    int64_t elements_ = 0;
    Uses used_; // by the rule that is being read
};

} // namespace

std::map<std::string, Node> parse_grammar(const std::string &gbnf) { return Parser(gbnf).rules(); }

} // namespace personaplug
