#include <gtest/gtest.h>
#include <cstdlib>
#include <unistd.h>
#include <cstdio>
TEST(Math, Adds) { EXPECT_EQ(1 + 1, 2); }
TEST(Math, Fails) { std::puts("said before"); EXPECT_EQ(1 + 1, 3) << "arithmetic"; EXPECT_TRUE(false); }
TEST(Math, DISABLED_Later) { FAIL(); }
TEST(DISABLED_Off, Never) { FAIL(); }
TEST(Math, Skips) { GTEST_SKIP() << "not here"; }
TEST(Math, Dies) { if (std::getenv("DIE")) std::abort(); }
TEST(Math, AfterDeath) {}
TEST(Math, Hangs) { if (std::getenv("HANG")) sleep(60); }
class Values : public testing::TestWithParam<int> {};
TEST_P(Values, IsSmall) { EXPECT_LT(GetParam(), 3); }
INSTANTIATE_TEST_SUITE_P(Few, Values, testing::Values(1, 2, 3));
INSTANTIATE_TEST_SUITE_P(Named, Values, testing::Values(1, 2), [](const testing::TestParamInfo<int>& i) { return "n" + std::to_string(i.param); });
template <class T> class Typed : public testing::Test {};
using Types = testing::Types<int, char>;
TYPED_TEST_SUITE(Typed, Types);
TYPED_TEST(Typed, HasSize) { EXPECT_GT(sizeof(TypeParam), 0u); }
class Broken : public testing::Test { public: static void SetUpTestSuite() { if (std::getenv("BROKEN")) FAIL() << "no such device"; } };
TEST_F(Broken, One) {}
struct Leak { ~Leak() { if (std::getenv("EXIT")) _exit(7); } } leak;
