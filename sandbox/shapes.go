package sandbox

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"
)

// shape is how one kind of report looks: what stands before and after its records, and a record.
type shape struct {
	open   func([]byte, *holder) []byte
	record func([]byte, *holder, int) []byte
	close  string
}

// shapeOf chooses by the product's name. The statement and the credit risk report follow Klavi's samples; the keys of the
// others are inferred from integrations.
func shapeOf(product string) shape {
	_, kind, _ := strings.Cut(product, "_")
	switch {
	case kind == "credit_risk":
		return creditRisk
	case strings.Contains(kind, "credit_card"), strings.Contains(kind, "creditcard"):
		return creditCards(strings.HasPrefix(kind, "categorized"))
	case strings.Contains(kind, "checking"):
		return statement("checkingAccounts", strings.HasPrefix(kind, "categorized"), strings.HasSuffix(kind, "_l3"))
	case strings.Contains(kind, "savings"):
		return statement("savingsAccounts", strings.HasPrefix(kind, "categorized"), strings.HasSuffix(kind, "_l3"))
	case kind == "loans", kind == "financing", strings.HasPrefix(kind, "unarranged"), strings.HasPrefix(kind, "invoice"):
		return list(camel(kind), contract)
	case strings.HasSuffix(kind, "incomes"), kind == "funds", kind == "treasure_titles":
		return list(camel(kind), holding)
	case kind == "balance":
		return list("balances", balance)
	}
	return list(camel(kind), observation)
}

// holder is the person whose data a report shows, and the dice that make it up.
type holder struct {
	rng      *rand.Rand
	name     string
	taxID    string
	bank     string // its code
	bankName string
	account  string
	start    time.Time
	step     time.Duration // between two records
	cents    int64         // the running balance
}

var (
	firstNames = []string{"Ana", "Bruno", "Carla", "Diego", "Elisa", "Felipe", "Gabriela", "Henrique", "Isabela", "Joana", "Lucas", "Marina"}
	lastNames  = []string{"Almeida", "Barbosa", "Cardoso", "Duarte", "Ferreira", "Gomes", "Lima", "Moreira", "Nunes", "Pereira", "Souza", "Teixeira"}
)

// typicalRecord spreads the records of a report over its year.
const typicalRecord = 700

func newHolder(seed uint64, taxID, bank string, at time.Time, size int64) *holder {
	h := &holder{rng: rand.New(rand.NewPCG(seed, 0x6b6c617669)), taxID: taxID, bank: bank, bankName: "Banco Exemplo"}
	if inst := findInstitution(bank); inst != nil {
		h.bankName = inst.Name
	}
	who := seedOf(0, taxID)
	h.name = firstNames[who%uint64(len(firstNames))] + " " + lastNames[who/64%uint64(len(lastNames))]
	h.account = accountNumber(taxID, bank)
	const year = 365 * 24 * time.Hour
	h.start = at.Add(-year)
	h.step = year / time.Duration(size/typicalRecord+10)
	h.cents = 100_000 + h.rng.Int64N(900_000)
	return h
}

// seedOf hashes what the data depends on.
func seedOf(seed uint64, parts ...string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, seed)
	for _, p := range parts {
		fmt.Fprint(h, "|", p)
	}
	return h.Sum64()
}

func accountNumber(taxID, bank string) string {
	return fmt.Sprintf("%08d", seedOf(1, taxID, bank)%100_000_000)
}

// decimal writes an amount as Klavi does, a string with four decimals.
func decimal(b []byte, cents int64) []byte {
	sign := ""
	if cents < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Appendf(b, `"%s%d.%02d00"`, sign, cents/100, cents%100)
}

func money(b []byte, cents int64) []byte {
	b = decimal(append(b, `{"amount":`...), cents)
	return append(b, `,"currency":"BRL"}`...)
}

func (h *holder) at(i int) time.Time { return h.start.Add(time.Duration(i) * h.step) }

type category struct {
	name, category, sub, third, kind string
	credit                           bool
	low, high                        int64 // cents
}

var categories = []category{
	{"SALARIO", "Income", "Salary", "Payroll", "TED", true, 250_000, 900_000},
	{"PIX RECEBIDO", "Income", "Transfer", "Pix received", "PIX", true, 2_000, 120_000},
	{"SUPERMERCADO BOM PRECO", "Food", "Groceries", "Supermarket", "CARTAO", false, 3_000, 60_000},
	{"RESTAURANTE DA PRACA", "Food", "Eating out", "Restaurant", "CARTAO", false, 2_500, 18_000},
	{"POSTO ESTRADA", "Transport", "Fuel", "Petrol station", "CARTAO", false, 5_000, 35_000},
	{"CONTA DE LUZ", "Housing", "Utilities", "Electricity", "BOLETO", false, 8_000, 42_000},
	{"ALUGUEL", "Housing", "Rent", "Apartment", "BOLETO", false, 90_000, 280_000},
	{"PIX ENVIADO", "Transfer", "Pix sent", "Person", "PIX", false, 1_000, 80_000},
	{"FARMACIA CENTRAL", "Health", "Pharmacy", "Medicine", "CARTAO", false, 1_500, 25_000},
}

// statement follows the sample of pf_categorized_checking_l3 (docs.klavi.ai/connect/zJgr-v1).
func statement(key string, categorized, third bool) shape {
	return shape{
		open: func(b []byte, h *holder) []byte {
			b = fmt.Appendf(b, `"%s":[{"brandName":%q,"bacenName":%q,"compeCode":"%s","companyCnpj":"00000000000191",`+
				`"branchCode":"%04d","number":"%s","checkDigit":"%d","subtype":"INDIVIDUAL","civilName":%q,"balances":{"availableAmount":`,
				key, h.bankName, h.bankName, h.bank, 1+h.rng.IntN(9000), h.account, h.rng.IntN(10), h.name)
			b = money(b, h.cents)
			b = money(append(b, `,"blockedAmount":`...), 0)
			b = money(append(b, `,"automaticallyInvestedAmount":`...), h.rng.Int64N(50_000))
			return append(b, `},"transactionDetails":[`...)
		},
		record: func(b []byte, h *holder, i int) []byte { return transaction(b, h, i, categorized, third) },
		close:  "]}]",
	}
}

func transaction(b []byte, h *holder, i int, categorized, third bool) []byte {
	at := h.at(i)
	c := categories[h.rng.IntN(len(categories))]
	amount := c.low + h.rng.Int64N(c.high-c.low)
	direction := "DEBITO"
	if c.credit {
		direction = "CREDITO"
		h.cents += amount
	} else {
		h.cents -= amount
	}
	b = fmt.Appendf(b, `{"transactionDate":"%s","transactionDateTime":"%s","transactionId":"%016x%08x",`+
		`"completedAuthorisedPaymentType":"TRANSACAO_EFETIVADA","creditDebitType":"%s","transactionAmount":`,
		at.Format(time.DateOnly), at.Format(milliTime), h.rng.Uint64(), i, direction)
	b = money(b, amount)
	b = fmt.Appendf(b, `,"transactionName":%q,"partieCnpjCpf":"%014d","partiePersonType":"PESSOA_JURIDICA","partieCompeCode":"%03d",`+
		`"partieBranchCode":"%04d","partieNumber":"%08d","partieCheckDigit":"%d","type":"%s","postTransactionBalance":`,
		c.name, h.rng.Int64N(1e13), 1+h.rng.IntN(750), 1+h.rng.IntN(9000), h.rng.IntN(1e8), h.rng.IntN(10), c.kind)
	b = decimal(b, h.cents)
	if categorized {
		b = fmt.Appendf(b, `,"category":%q,"subcategory":%q`, c.category, c.sub)
		if third {
			b = fmt.Appendf(b, `,"thirdCategory":%q`, c.third)
		}
		b = fmt.Appendf(b, `,"fAll":1,"fAllMonth":%d,"fAllCmonth":%d`, i%2, (i+1)%2)
	}
	return append(b, `,"settlementType":"NORMAL"}`...)
}

func creditCards(categorized bool) shape {
	return shape{
		open: func(b []byte, h *holder) []byte {
			b = fmt.Appendf(b, `"creditCards":[{"brandName":%q,"companyCnpj":"00000000000191","name":"Cartao Gold","productType":"GOLD",`+
				`"creditCardNetwork":"VISA","paymentMethod":[{"identificationNumber":"%04d","isMultipleCreditCard":false}],"limits":[{"creditLineLimitType":`+
				`"LIMITE_CREDITO_TOTAL","limitAmount":`, h.bankName, h.rng.IntN(10_000))
			b = money(b, 500_000+h.rng.Int64N(2_000_000))
			b = money(append(b, `,"usedAmount":`...), h.rng.Int64N(500_000))
			return append(b, `}],"transactionDetails":[`...)
		},
		record: func(b []byte, h *holder, i int) []byte {
			at := h.at(i)
			c := categories[2+h.rng.IntN(len(categories)-2)]
			b = fmt.Appendf(b, `{"transactionId":"%016x%08x","identificationNumber":"%04d","transactionName":%q,"billId":"%s","creditDebitType":"DEBITO",`+
				`"transactionType":"PAGAMENTO","paymentType":"A_VISTA","transactionDateTime":"%s","billPostDate":"%s","payeeMCC":%d,"amount":`,
				h.rng.Uint64(), i, h.rng.IntN(10_000), c.name, at.Format("200601"), at.Format(milliTime), at.Format(time.DateOnly), 5000+h.rng.IntN(900))
			b = money(b, c.low+h.rng.Int64N(c.high-c.low))
			if categorized {
				b = fmt.Appendf(b, `,"category":%q,"subcategory":%q,"thirdCategory":%q`, c.category, c.sub, c.third)
			}
			return append(b, '}')
		},
		close: "]}]",
	}
}

// creditRisk follows the sample of pf_credit_risk V1.1 (docs.klavi.ai/link/KGqy-v11).
var creditRisk = shape{
	open: func(b []byte, h *holder) []byte {
		return fmt.Appendf(b, `"creditRisk":{"personalInfo":{"accounts":[{"brandName":%q,"bacenName":%q,"compeCode":"%s"}],"civilName":%q},"labelDetails":[`,
			h.bankName, h.bankName, h.bank, h.name)
	},
	record: func(b []byte, h *holder, i int) []byte {
		labels := []string{"Longest checking account age", "Average monthly income", "Months with negative balance", "Credit card utilisation", "Active loans"}
		return fmt.Appendf(b, `{"labelCode":"F%06d","labelName":%q,"labelValue":%d}`, i+7, labels[i%len(labels)], h.rng.IntN(1000))
	},
	close: "]}",
}

// list is a plain array of records under a key.
func list(key string, record func([]byte, *holder, int) []byte) shape {
	return shape{
		open:   func(b []byte, _ *holder) []byte { return fmt.Appendf(b, `"%s":[`, key) },
		record: record,
		close:  "]",
	}
}

func contract(b []byte, h *holder, i int) []byte {
	at := h.at(i)
	b = fmt.Appendf(b, `{"brandName":%q,"companyCnpj":"00000000000191","contractNumber":"%012d","productType":"EMPRESTIMOS",`+
		`"productSubType":"CREDITO_PESSOAL_SEM_CONSIGNACAO","contractDate":"%s","dueDate":"%s","interestRate":"0.0%03d","totalNumberOfInstalments":%d,`+
		`"paidInstalments":%d,"contractAmount":`, h.bankName, h.rng.Int64N(1e12), at.Format(time.DateOnly), at.AddDate(3, 0, 0).Format(time.DateOnly),
		100+h.rng.IntN(400), 36, h.rng.IntN(36))
	b = money(b, 100_000+h.rng.Int64N(5_000_000))
	b = money(append(b, `,"contractOutstandingBalance":`...), h.rng.Int64N(2_000_000))
	return append(b, '}')
}

func holding(b []byte, h *holder, i int) []byte {
	at := h.at(i)
	b = fmt.Appendf(b, `{"brandName":%q,"companyCnpj":"00000000000191","investmentId":"%016x%08x","investmentType":"CDB","isinCode":"BREXP%07d",`+
		`"issueDate":"%s","dueDate":"%s","indexer":"CDI","indexerPercentage":"1.%02d00","quantity":"%d.00","grossAmount":`,
		h.bankName, h.rng.Uint64(), i, h.rng.IntN(1e7), at.Format(time.DateOnly), at.AddDate(2, 0, 0).Format(time.DateOnly), h.rng.IntN(30), 1+h.rng.IntN(500))
	gross := 10_000 + h.rng.Int64N(3_000_000)
	b = money(b, gross)
	b = money(append(b, `,"netAmount":`...), gross-gross/50)
	return append(b, '}')
}

func balance(b []byte, h *holder, i int) []byte {
	b = fmt.Appendf(b, `{"brandName":%q,"number":"%s","date":"%s","availableAmount":`, h.bankName, h.account, h.at(i).Format(time.DateOnly))
	return append(money(b, h.rng.Int64N(1_000_000)), '}')
}

// observation stands for products of which nothing is known but the name.
func observation(b []byte, h *holder, i int) []byte {
	b = fmt.Appendf(b, `{"brandName":%q,"date":"%s","value":`, h.bankName, h.at(i).Format(time.DateOnly))
	return append(money(b, h.rng.Int64N(1_000_000)), '}')
}

// camel turns bank_fixed_incomes into bankFixedIncomes.
func camel(s string) string {
	parts := strings.Split(s, "_")
	for i := 1; i < len(parts); i++ {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}
