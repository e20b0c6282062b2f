package main

import (
	"slices"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{9, 1, 5, 3}, 4},
		{[]float64{2, 2, 100, 2, 2}, 2},
	} {
		given := slices.Clone(tc.values)
		if got := median(tc.values); got != tc.want {
			t.Errorf("median of %v: got %v, want %v", given, got, tc.want)
		}
		if !slices.Equal(tc.values, given) {
			t.Errorf("median changed %v to %v", given, tc.values)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, tc := range []struct {
		values  []int
		percent int
		want    int
	}{
		{nil, 99, 0},
		{[]int{4}, 99, 4},
		{[]int{4}, 0, 4},
		{[]int{3, 1, 2}, 50, 2},
		{[]int{3, 1, 2}, 99, 3},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred, 1, 1},
	} {
		if got := percentile(slices.Clone(tc.values), tc.percent); got != tc.want {
			t.Errorf("percentile %d of %v: got %d, want %d", tc.percent, tc.values, got, tc.want)
		}
	}
}

func TestRatios(t *testing.T) {
	got := ratios([]float64{10, 9, 30}, []float64{10, 10, 20})
	if want := []float64{1, 0.9, 1.5}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMicroseconds(t *testing.T) {
	if got := microseconds(1500 * time.Nanosecond); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
}
