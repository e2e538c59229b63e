//! Plain prose in which names and words come again, written for this.

pub(crate) const PASSAGES: &[&str] = &[
    "The old lighthouse stood at the end of the pier. Every evening Martha climbed the stairs \
     of the lighthouse with a lantern in her hand, and every morning she came down again. \
     Nobody in the village had ever asked Martha what she did up there, but when the fog came \
     in, all the fishermen looked for the light of the lighthouse before they looked for the \
     harbour.",
    "To make bread you need flour, water, salt and yeast. Mix the flour and the water in a \
     bowl and let the mixture rest. Then add the yeast and the salt. Knead the dough for ten \
     minutes until the dough is smooth. Put the dough back into the bowl, cover the bowl with \
     a cloth, and leave it in a warm place until the dough has doubled.",
    "Dr. Okafor and Dr. Lindqvist had not spoken for eleven years. When Dr. Okafor was asked \
     about the quarrel, she said that it had been about a microscope. Dr. Lindqvist, who was \
     asked the next day, said that there had never been a microscope. The microscope is still \
     in the cellar of the institute, and nobody has used it since.",
    "The river rises in the mountains, crosses the plain and reaches the sea at a small town. \
     In spring the river is high and brown, and the people of the town watch the water from \
     the bridge. In summer the river is so low that children walk from one bank to the other, \
     and the bridge looks as if someone had built it in the wrong place.",
    "Chess is played by two players on a board of sixty-four squares. Each player has sixteen \
     pieces: one king, one queen, two rooks, two bishops, two knights and eight pawns. The \
     aim of the game is to attack the other player's king so that the king cannot escape. If \
     neither player can do so, the game is drawn.",
    "Tom said that the train would leave at nine. Anna said that the train would leave at \
     ten. When they came to the station at half past eight, the train had gone. Tom blamed \
     Anna, Anna blamed Tom, and both of them blamed the timetable, which somebody had hung \
     upside down. They took the next train and did not say a word until they arrived.",
    "Honey bees live in colonies. A colony of honey bees has one queen, some thousand drones \
     and many thousand workers. The workers gather nectar and pollen, feed the larvae and \
     guard the hive. The queen lays eggs, as many as two thousand a day. In winter the \
     workers gather around the queen and keep the hive warm by moving their wings.",
    "My grandfather repaired clocks. In his workshop there were clocks on every wall, and no \
     two clocks showed the same time. When I asked my grandfather which of the clocks was \
     right, he said that a clock which has stopped is right twice a day, and that this is \
     more than could be said of most people who came into his workshop.",
    "The committee met on Monday to discuss the new library. Mrs. Harper wanted the library \
     to be near the school. Mr. Doyle wanted the library to be near the station. Mrs. Harper \
     said that children read more than passengers do. Mr. Doyle said that passengers have \
     more time than children have. The committee decided to meet again on Friday.",
    "Mount Velna is an extinct volcano. The last eruption of Mount Velna was about forty \
     thousand years ago, and today its crater is a lake. The lake is eighty metres deep and \
     has no outlet. On the north side of the crater there is a path down to the lake, and on \
     the south side there is a hut in which climbers can spend the night.",
    "The cook counted the plates: there were twelve plates on the table and seven guests in \
     the hall. Five guests were missing. The cook sent a boy to look for the five guests, and \
     when the boy did not come back, the cook took off his apron and went to look for the \
     boy. When the five guests came at last, there was nobody to serve them.",
    "A prime number is a whole number greater than one that has no divisors but one and \
     itself. Two is a prime number, three is a prime number, and so are five and seven. Four \
     is not a prime number, since four is two times two. There are infinitely many prime \
     numbers, as Euclid showed: whoever thinks he has all prime numbers can make one more.",
    "Lena kept a diary in which she wrote down the weather. On Tuesday it rained. On \
     Wednesday it rained. On Thursday the sun came out for an hour, and then it rained. On \
     Friday Lena did not write anything in her diary, because on Friday the roof of the house \
     had come off and the diary was floating in the kitchen.",
    "The museum has three rooms. In the first room are the paintings, in the second room are \
     the coins, and in the third room is the skeleton of a whale. Most visitors walk through \
     the room with the paintings and the room with the coins without stopping, and sit down \
     in front of the whale. The guard of the third room knows everything about the whale.",
    "Wood is harder to cut across the grain than along the grain. A saw for cutting across \
     the grain has teeth like small knives; a saw for cutting along the grain has teeth like \
     small chisels. If you use the wrong saw you can still cut the wood, but the cut will be \
     rough, and you will be tired before the wood is in two pieces.",
    "Captain Reyes wrote in the log that the ship had passed the island at noon. The mate \
     wrote in his own log that the ship had not passed any island. The passengers, who had \
     been on deck at noon, said that they had seen an island, but that the island had passed \
     the ship. Captain Reyes threw both logs into the sea.",
];
