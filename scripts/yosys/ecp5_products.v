// Products without a MULT18X18D: `-D CONSTANT` takes those with a constant aside, which yosys makes
// shifts and additions of; without it, every other becomes rows, one for each bit of B, and adders.
//
// A CCU2C adds what its LUTs make of four inputs, so two rows are gated and added in one carry
// chain: eight bits of B take four such chains and three more that add them, seven LUT4 a column.
// (yosys' own way, full adders in LUT4s below a carry chain, takes 22.)
(* techmap_celltype = "$mul" *)
module _product(A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  (* force_downto *)
  input [A_WIDTH-1:0] A;
  (* force_downto *)
  input [B_WIDTH-1:0] B;
  (* force_downto *)
  output [Y_WIDTH-1:0] Y;

`ifdef CONSTANT
  parameter _TECHMAP_CONSTMSK_A_ = 0;
  parameter _TECHMAP_CONSTMSK_B_ = 0;
  wire _TECHMAP_FAIL_ = !(&_TECHMAP_CONSTMSK_A_ || &_TECHMAP_CONSTMSK_B_);
  \$__constant_mul #(
    .A_SIGNED(A_SIGNED), .B_SIGNED(B_SIGNED),
    .A_WIDTH(A_WIDTH), .B_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)
  ) _TECHMAP_REPLACE_ (.A(A), .B(B), .Y(Y));
`else
  // Two rows are x + 2 x: two bits more than x, and one for the sign of an unsigned one.
  localparam PAIRS = (B_WIDTH + 1) / 2;
  localparam SLICES = (A_WIDTH + 4) / 2;
  localparam BITS = 2 * SLICES;

  wire [BITS-1:0] row = {{(BITS - A_WIDTH){A_SIGNED ? A[A_WIDTH-1] : 1'b0}}, A};
  wire [BITS-1:0] row_2 = {row[BITS-2:0], 1'b0};
  wire [2*PAIRS-1:0] factor = B;

  // A tree: node n is the sum of nodes 2 n + 1 and 2 n + 2, and the last ones are the pairs.
  wire [Y_WIDTH*(2*PAIRS-1)-1:0] nodes;

  genvar n, k;
  generate
    for (n = 0; n < PAIRS; n = n + 1) begin : pair
      // The highest bit of a signed factor counts negative: its row is subtracted. Inverted rows
      // come in at A and B, which also generate the carry.
      localparam LOW = B_SIGNED && 2 * n == B_WIDTH - 1;
      localparam HIGH = B_SIGNED && 2 * n + 1 == B_WIDTH - 1;
      localparam [15:0] INIT = LOW || HIGH ? 16'h8777 : 16'h7888;
      wire [BITS-1:0] first = LOW ? row : row_2;
      wire [BITS-1:0] second = LOW ? row_2 : row;
      wire gate_first = LOW ? factor[2*n] : factor[2*n+1];
      wire gate_second = LOW ? factor[2*n+1] : factor[2*n];
      wire signed [BITS-1:0] sum;
      wire signed [Y_WIDTH+BITS-1:0] wide = sum;
      wire [SLICES:0] carry;
      assign carry[0] = LOW || HIGH;
      for (k = 0; k < SLICES; k = k + 1) begin : slice
        CCU2C #(
          .INIT0(INIT), .INIT1(INIT), .INJECT1_0("NO"), .INJECT1_1("NO")
        ) add (
          .CIN(carry[k]), .COUT(carry[k+1]),
          .A0(first[2*k]), .B0(gate_first), .C0(second[2*k]), .D0(gate_second),
          .A1(first[2*k+1]), .B1(gate_first), .C1(second[2*k+1]), .D1(gate_second),
          .S0(sum[2*k]), .S1(sum[2*k+1])
        );
      end
      assign nodes[Y_WIDTH*(PAIRS-1+n) +: Y_WIDTH] = wide << 2 * n;
    end
    for (n = 0; n < PAIRS - 1; n = n + 1) begin : node
      wire [Y_WIDTH-1:0] unused_x, unused_carry;
      // An `$add` would be taken apart again, with its neighbours.
      \$alu #(
        .A_SIGNED(0), .B_SIGNED(0), .A_WIDTH(Y_WIDTH), .B_WIDTH(Y_WIDTH), .Y_WIDTH(Y_WIDTH)
      ) add (
        .A(nodes[Y_WIDTH*(2*n+1) +: Y_WIDTH]),
        .B(nodes[Y_WIDTH*(2*n+2) +: Y_WIDTH]),
        .CI(1'b0), .BI(1'b0),
        .Y(nodes[Y_WIDTH*n +: Y_WIDTH]), .X(unused_x), .CO(unused_carry)
      );
    end
  endgenerate
  assign Y = nodes[Y_WIDTH-1:0];
`endif
endmodule
