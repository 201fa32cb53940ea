// A few lines of test harness: CHECK, CHECK_THROWS, and TEST cases that main.cc runs in order.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace personaplug::test {

struct Case {
    const char *name;
    std::function<void()> run;
};

inline std::vector<Case> &cases() {
    static std::vector<Case> all;
    return all;
}

inline int &failures() {
    static int count = 0;
    return count;
}

// The tiny GGUF that the tests were given.
inline std::string &model_path() {
    static std::string path;
    return path;
}

struct Registered {
    Registered(const char *name, std::function<void()> run) { cases().push_back({name, std::move(run)}); }
};

inline void report(bool good, const char *file, int line, const char *what) {
    if (!good) {
        ++failures();
        std::printf("%s:%d: %s\n", file, line, what);
    }
}

} // namespace personaplug::test

#define TEST(name)                                                                                                     \
    static void test_##name();                                                                                         \
    static const personaplug::test::Registered registered_##name(#name, test_##name);                                  \
    static void test_##name()

#define CHECK(condition) personaplug::test::report((condition), __FILE__, __LINE__, #condition)

#define CHECK_THROWS(type, statement)                                                                                  \
    do {                                                                                                               \
        bool thrown = false;                                                                                           \
        try {                                                                                                          \
            statement;                                                                                                 \
        } catch (const type &) {                                                                                       \
            thrown = true;                                                                                             \
        }                                                                                                              \
        personaplug::test::report(thrown, __FILE__, __LINE__, #statement " throws " #type);                            \
    } while (false)
