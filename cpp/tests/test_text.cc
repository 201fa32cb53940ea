#include <chrono>
#include <thread>

#include "check.h"
#include "stop_matcher.h"
#include "threads.h"
#include "utf8.h"

using namespace personaplug;

namespace {

// Every way to cut the bytes in pieces gives the same text.
std::string in_pieces(const std::string &bytes, size_t size) {
    Utf8Assembler assembler;
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += size) {
        text += assembler.push(bytes.substr(i, size));
    }
    return text + assembler.flush();
}

std::string through(std::vector<std::string> stops, const std::string &text, size_t size, bool &matched) {
    StopMatcher matcher(std::move(stops));
    std::string shown;
    for (size_t i = 0; i < text.size() && !matcher.matched(); i += size) {
        shown += matcher.push(text.substr(i, size));
    }
    matched = matcher.matched();
    return shown + matcher.flush();
}

} // namespace

TEST(utf8_is_checked) {
    CHECK(is_utf8(""));
    CHECK(is_utf8("a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x99\x82"));
    for (const char *bad :
         {"\x80", "\xC3", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5", "\xE6\xBC"}) {
        CHECK(!is_utf8(bad));
    }
}

TEST(characters_come_whole) {
    const std::string text = "a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x99\x82z";
    for (size_t size = 1; size <= text.size(); ++size) {
        CHECK(in_pieces(text, size) == text);
    }
    Utf8Assembler assembler;
    CHECK(assembler.push("\xF0\x9F\x99").empty());
    CHECK(assembler.push("\x82!") == "\xF0\x9F\x99\x82!");
    CHECK(assembler.flush().empty());
}

TEST(broken_bytes_become_replacement_characters) {
    const std::string mark = "\xEF\xBF\xBD";
    CHECK(in_pieces("\xFF\xFE", 1) == mark + mark);
    CHECK(in_pieces("\xE6\xBC", 1) == mark);
    CHECK(in_pieces("\xE6\xBC!", 1) == mark + "!");
    CHECK(in_pieces("\xED\xA0\x80", 1) == mark + mark + mark);
}

TEST(stop_strings_are_found_however_they_are_cut) {
    bool matched = false;
    for (size_t size = 1; size < 12; ++size) {
        CHECK(through({"STOP", "zz"}, "go STOSTOP on", size, matched) == "go STO");
        CHECK(matched);
        CHECK(through({"STOP"}, "go STO", size, matched) == "go STO");
        CHECK(!matched);
        CHECK(through({"bc", "abcd"}, "xabcd", size, matched).substr(0, 1) == "x");
        CHECK(matched);
        CHECK(through({}, "xabcd", size, matched) == "xabcd");
    }
}

TEST(a_thread_that_sleeps_computes_nothing) {
    const double begun = thread_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    CHECK(thread_seconds() - begun < 0.2);
    const double rested = thread_seconds();
    volatile double sum = 0.0;
    while (thread_seconds() - rested < 0.05) {
        sum = sum + 1.0;
    }
    CHECK(sum > 0.0);
}

TEST(text_that_begins_a_stop_string_is_held_back) {
    StopMatcher matcher({"\n\n"});
    CHECK(matcher.push("a\n") == "a");
    CHECK(matcher.push("b") == "\nb");
    CHECK(matcher.push("\n\nc").empty());
    CHECK(matcher.matched());
    CHECK(matcher.push("more").empty());
}
