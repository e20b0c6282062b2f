package postgrestest

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

var databases atomic.Int64

// Database makes an empty database and returns its URL, with the password of its owner.
// It is dropped at the end of the test, whoever is still connected.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	begin := s.logSize()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	s.Exec(t, "CREATE DATABASE "+name+" OWNER "+User)
	t.Cleanup(func() {
		if s.shared && t.Failed() {
			t.Log(s.logFrom(begin))
		}
		if s.running() {
			s.Exec(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		}
	})
	return s.url(User, Password, name).String()
}

// Exec has the superuser do something with the server.
func (s *Server) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	err := s.superuser(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Exec does something in the database with a URL.
func Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	err := connected(url, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Query returns the only column of all rows that a query has in the database with a URL.
func Query[T any](t testing.TB, url, sql string, args ...any) []T {
	t.Helper()
	var list []T
	err := connected(url, func(ctx context.Context, conn *pgx.Conn) (err error) {
		list, err = query[T](ctx, conn, sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return list
}

func query[T any](ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// connected calls a function with a connection of its own.
func connected(url string, fn func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return fn(ctx, conn)
}

// superuser calls a function with a connection of the superuser.
func (s *Server) superuser(fn func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return fn(ctx, conn)
}

// databaseOf returns the name of the database that a URL leads to.
func databaseOf(t testing.TB, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal("this is no URL of a database")
	}
	return strings.TrimPrefix(u.Path, "/")
}
