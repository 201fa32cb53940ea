// Reading grammars, with what lies: nothing may be read beyond the text, and nothing may take long.
#include "check.h"
#include "error.h"
#include "grammar_cost.h"

using namespace personaplug;

namespace {

std::string refused(const std::string &grammar) {
    try {
        parse_grammar(grammar);
        return "";
    } catch (const GrammarError &error) {
        return error.what();
    }
}

bool has(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

const char *const kGrammar = "root ::= # (\n [a-z\\]-] \"x\"{0,15} | ( y \n | . )* # z\"\r\n  \r\n"
                             "y ::= <[5]> !<a> \"\\u00e9\xc3\xa9\" \"\" (y2 | \"b\"+)? {2}\ny2 ::= [^\\n] * {3 , }\n";

} // namespace

TEST(grammars_are_read_as_llama_cpp_reads_them) {
    CHECK(refused(kGrammar).empty());
    CHECK(refused("root ::= \"a\"").empty());
    CHECK(refused("# \"[(\nroot ::= \"a\" # ((\n").empty());
    CHECK(has(refused("root ::= \"a\"\n  \"b\""), "line 2, column 3"));
    CHECK(has(refused("root ::= \"a\"{3,2}"), "at least 3"));
    CHECK(has(refused("root ::= [a-"), "got the end"));
    CHECK(has(refused("root ::= \"\\u12"), "hexadecimal"));
    CHECK(has(refused("root ::= \"a\"{"), "number"));
    CHECK(has(refused("root ::= <a"), "token"));
    CHECK(has(refused(""), "root"));
    CHECK(has(refused("root ::= " + std::string(100000, '(')), "deep"));
    CHECK(has(refused("root ::= \"a\"" + std::string(100000, '*')), "times over"));
    CHECK(has(refused("root ::= \"" + std::string(1000, 'a') + "\"{1001}"), "1000000"));
    CHECK(refused("root ::= \"" + std::string(900, 'a') + "\"{1000}").empty());
}

TEST(grammars_that_end_anywhere_or_are_damaged) {
    const std::string whole = kGrammar;
    for (size_t size = 0; size < whole.size(); ++size) {
        refused(whole.substr(0, size));
        for (const char c : std::string("\"[](){}|*+?<>!\\#:= \n-0a.,")) {
            std::string damaged = whole;
            damaged[size] = c;
            refused(damaged);
            refused(damaged.substr(0, size + 1));
        }
    }
}

TEST(what_a_grammar_costs) {
    CHECK(grammar_cost(parse_grammar(kGrammar)) < 1e6);
    CHECK(grammar_cost(parse_grammar("root ::= (((\"x\"?){2000}){2000}){2000}")) > 1e10);
}
